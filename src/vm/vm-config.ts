import { TomlError, parse } from 'smol-toml';
import * as v from 'valibot';
import { InvalidInput, parseByteSize } from '../base/index.js';

/** `auto`: KVM where /dev/kvm can be used, else TCG. A state saved under one is not promised to resume under the other. */
export type Accelerator = 'kvm' | 'tcg' | 'auto';

/** How long each step may take, in seconds. */
export type StepTimeouts = Readonly<Record<'start' | 'resume' | 'suspend' | 'kill' | 'inspect', number>>;

export interface QemuConfig {
  readonly kind: 'qemu';
  readonly binary: string;
  readonly machine: string;
  readonly accelerator: Accelerator;
  /** For every run. May hold placeholders. */
  readonly arguments: readonly string[];
  /**
   * For a cold boot only: what only firmware reads (`-kernel`, `-initrd`, an installation medium). QEMU reads such files
   * whole when it starts, so a resume that named them would wait for them for nothing.
   */
  readonly bootArguments: readonly string[];
  readonly memory: {
    readonly file: string;
    readonly sizeBytes: number;
    /** Whether the guest's writes reach the file. If not, the memory is part of the saved state. */
    readonly shared: boolean;
  };
  readonly stateFile: string;
  readonly timeoutSeconds: StepTimeouts;
}

/** A program and its arguments, which may hold placeholders. Never given to a shell. */
export type CommandLine = readonly [program: string, ...rest: string[]];

export interface CommandConfig {
  readonly kind: 'command';
  readonly start: CommandLine;
  readonly resume: CommandLine;
  readonly suspend: CommandLine;
  readonly kill: CommandLine;
  readonly inspect: CommandLine;
  readonly timeoutSeconds: StepTimeouts;
}

/** What `isr.toml` in a VM's directory says: how to run the VM, on any host. docs/hypervisors.md explains each key. */
export type VmConfig = QemuConfig | CommandConfig;

const currentFormat = 1;

/** Set by the adapter itself: given twice, QEMU would take one of them in silence, or work against a suspend. */
const optionsOfOurs: ReadonlyMap<string, string> = new Map([
  ['accel', 'hypervisor.accelerator'],
  ['enable-kvm', 'hypervisor.accelerator'],
  ['machine', 'hypervisor.machine'],
  ['M', 'hypervisor.machine'],
  ['m', 'memory.size'],
  ['mem-path', 'memory.file'],
  ...['name', 'incoming', 'loadvm', 'pidfile', 'daemonize', 'S'].map((name) => [name, 'isr itself'] as const),
]);

const text = v.pipe(v.string('must be a text'), v.nonEmpty('must not be empty'));

const texts = v.array(v.string('must be a text'), 'must be a list of texts');

const placeholders = new Set(['{directory}', '{run}', '{name}']);

function unknownPlaceholder(argument: string): string | undefined {
  return (argument.match(/\{[A-Za-z_]+\}/g) ?? []).find((found) => !placeholders.has(found));
}

/** Puts values in place of `{directory}`, `{run}` and `{name}`. */
export function fillPlaceholders(
  argument: string,
  values: { readonly directory: string; readonly run: string; readonly name: string },
): string {
  return argument.replace(/\{(directory|run|name)\}/g, (_, key: keyof typeof values) => values[key]);
}

const argumentList = v.pipe(
  texts,
  v.checkItems(
    (argument) => unknownPlaceholder(argument) === undefined,
    'has an unknown placeholder: there are {directory}, {run} and {name}',
  ),
);

function setterOf(argument: string): string | undefined {
  return optionsOfOurs.get(argument.replace(/^--?/, '-').slice(1));
}

const qemuArguments = v.pipe(
  argumentList,
  v.checkItems(
    (argument) => !argument.startsWith('-') || setterOf(argument) === undefined,
    ({ input }) => `must not be ${input}: that is set by ${setterOf(input) ?? 'isr itself'}`,
  ),
);

const fileName = v.pipe(
  text,
  v.check(
    (path) => !path.startsWith('/') && path.split('/').every((part) => !['', '.', '..'].includes(part)),
    'must be a path inside the VM\'s directory, such as "mem"',
  ),
);

const memorySize = v.pipe(
  text,
  v.transform((size) => parseByteSize(size) ?? Number.NaN),
  v.number('must be a size such as "256M" or "4G"'),
  v.check((bytes) => bytes > 0 && bytes % 2 ** 20 === 0, 'must be a whole number of mebibytes'),
);

const seconds = v.pipe(v.number('must be a number of seconds'), v.gtValue(0, 'must be more than 0'));

const timeouts = v.optional(
  v.strictObject({
    start: v.optional(seconds, 60),
    resume: v.optional(seconds, 600),
    suspend: v.optional(seconds, 600),
    kill: v.optional(seconds, 30),
    inspect: v.optional(seconds, 5),
  }),
  {},
);

const format = v.literal(currentFormat);

const commandLine = v.pipe(
  argumentList,
  v.check((words) => (words[0] ?? '') !== '', 'must begin with a program'),
  v.transform((words) => words as unknown as CommandLine),
);

const qemuSchema = v.strictObject({
  format,
  hypervisor: v.strictObject({
    kind: v.literal('qemu'),
    binary: v.optional(text, 'qemu-system-x86_64'),
    machine: v.optional(text, 'q35'),
    accelerator: v.optional(v.picklist(['kvm', 'tcg', 'auto'], 'must be "kvm", "tcg" or "auto"'), 'auto'),
    arguments: v.optional(qemuArguments, []),
    boot_arguments: v.optional(qemuArguments, []),
  }),
  memory: v.strictObject({
    file: v.optional(fileName, 'mem'),
    size: memorySize,
    share: v.optional(v.boolean('must be true or false'), true),
  }),
  state: v.optional(v.strictObject({ file: v.optional(fileName, 'state') }), {}),
  timeout_seconds: timeouts,
});

const commandSchema = v.strictObject({
  format,
  hypervisor: v.strictObject({
    kind: v.literal('command'),
    start: commandLine,
    resume: commandLine,
    suspend: commandLine,
    kill: commandLine,
    inspect: commandLine,
  }),
  timeout_seconds: timeouts,
});

/** Only what must be known before the rest can be judged. */
const headSchema = v.object({
  format: v.number('must be a number'),
  hypervisor: v.object({ kind: v.picklist(['qemu', 'command'], 'must be "qemu" or "command"') }),
});

/**
 * Reads the text of an `isr.toml`. `path` is for messages only.
 * Throws `InvalidInput` that names the line and the key; an unknown key is an error.
 */
export function parseVmConfig(source: string, path: string): VmConfig {
  const document = parseToml(source, path);
  const head = check(headSchema, document, source, path);
  if (head.format !== currentFormat) {
    throw new InvalidInput(`${path} has format ${head.format}, and this isr knows format ${currentFormat}.`, {
      facts: { path, format: head.format },
      remedy: 'Use a newer isr, or write the file anew (docs/hypervisors.md).',
    });
  }
  if (head.hypervisor.kind === 'command') {
    const { hypervisor, timeout_seconds } = check(commandSchema, document, source, path);
    return { ...hypervisor, timeoutSeconds: timeout_seconds };
  }
  const { hypervisor, memory, state, timeout_seconds } = check(qemuSchema, document, source, path);
  const { boot_arguments, ...rest } = hypervisor;
  if (memory.file === state.file) {
    throw new InvalidInput(`${path} gives the memory and the state the same file, "${memory.file}".`);
  }
  return {
    ...rest,
    bootArguments: boot_arguments,
    memory: { file: memory.file, sizeBytes: memory.size, shared: memory.share },
    stateFile: state.file,
    timeoutSeconds: timeout_seconds,
  };
}

function parseToml(source: string, path: string): unknown {
  try {
    return parse(source);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const [reason] = cause.message.replace('Invalid TOML document: ', '').split('\n');
    throw new InvalidInput(`${path} line ${cause.line} is not valid TOML: ${reason ?? ''}.`, {
      facts: { path, line: cause.line },
      cause,
    });
  }
}

function check<S extends v.GenericSchema>(
  schema: S,
  document: unknown,
  source: string,
  path: string,
): v.InferOutput<S> {
  const result = v.safeParse(schema, document);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const keys = (issue.path ?? []).map((item) => String(item.key));
  const key = keys.join('.');
  const line = lineOfKey(source, keys);
  const where = line === undefined ? path : `${path} line ${line}`;
  throw new InvalidInput(`${where}: ${complaint(issue, key)}.`, {
    facts: { path, key, line: line ?? null },
    remedy: 'docs/hypervisors.md lists the keys.',
  });
}

function complaint(issue: v.BaseIssue<unknown>, key: string): string {
  if (issue.type === 'strict_object' && issue.expected === 'never') return `the key ${key} is unknown`;
  if (issue.received === 'undefined') return `the key ${key} is missing`;
  if (issue.type === 'strict_object' || issue.type === 'object') return `${key} must be a table`;
  return `${key} ${issue.message}`;
}

/**
 * Line (from 1) that sets a key, or that opens the innermost of its tables that is there. Found by table headers and
 * names at the beginning of lines: the TOML parser keeps no positions.
 */
function lineOfKey(source: string, keys: readonly string[]): number | undefined {
  const lines = new Map<string, number>();
  let table = '';
  for (const [index, line] of source.split('\n').entries()) {
    const header = /^\s*\[\s*([\w.-]+)\s*\]/.exec(line)?.[1];
    if (header !== undefined) table = `${header}.`;
    const name = /^\s*([\w.-]+)\s*=/.exec(line)?.[1];
    const place = header ?? (name === undefined ? undefined : table + name);
    if (place !== undefined) lines.set(place, index + 1);
  }
  for (let length = keys.length; length > 0; length -= 1) {
    const line = lines.get(keys.slice(0, length).join('.'));
    if (line !== undefined) return line;
  }
  return undefined;
}
