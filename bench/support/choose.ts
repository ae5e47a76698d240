/** Those that a list with commas names; all where there is none. */
export function choose<T extends { readonly name: string }>(
  all: readonly T[],
  names: string | undefined,
  what: string,
): readonly T[] {
  if (names === undefined) return all;
  return names.split(',').map((name) => {
    const found = all.find((each) => each.name === name);
    if (found === undefined)
      throw new Error(`there is no ${what} ${name}; there are ${all.map((each) => each.name).join(', ')}`);
    return found;
  });
}
