/** Where the fields of a C structure lie. */
export interface Layout<Name extends string = string> {
  readonly bytes: number;
  readonly at: Readonly<Record<Name, number>>;
}

/**
 * Lays out a structure as a C compiler does whose members are all naturally aligned, as those of the kernel's header
 * are. A member is given by its size in bytes, or by the layout of the structure that it is.
 */
export function layout<const Members extends Readonly<Record<string, number | Layout>>>(
  members: Members,
): Layout<Extract<keyof Members, string>> {
  const at: Record<string, number> = {};
  let bytes = 0;
  for (const [name, member] of Object.entries(members)) {
    at[name] = bytes;
    bytes += typeof member === 'number' ? member : member.bytes;
  }
  return { bytes, at: at as Record<Extract<keyof Members, string>, number> };
}
