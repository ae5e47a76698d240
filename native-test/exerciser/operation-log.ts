import { closeSync, existsSync, ftruncateSync, openSync, readFileSync } from 'node:fs';
import { MappedMemory } from './system-calls.js';

/** What is kept of the past: enough that each page's last changes are among them. */
const records = 32_768;
const fields = 6;
const logBytes = records * fields * 8;
const pageBytes = 4096;

export interface LoggedOperation {
  readonly number: number;
  readonly name: string;
  readonly file: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** What else there is to know: a new size, where a copy comes from. */
  readonly extra: number;
}

/** The last operations, in memory that is a file's: it outlives the process, should a page fault kill that. */
export class OperationLog {
  readonly #names: readonly string[];
  readonly #memory: MappedMemory;
  readonly #values: Float64Array;
  #next = 0;

  constructor(path: string, names: readonly string[]) {
    this.#names = names;
    const fd = openSync(path, 'w+');
    ftruncateSync(fd, logBytes);
    this.#memory = MappedMemory.shared(fd, logBytes);
    closeSync(fd);
    const { buffer, byteOffset } = this.#memory.bytes;
    this.#values = new Float64Array(buffer, byteOffset, records * fields);
  }

  /** To be called before the operation is made. */
  add(operation: LoggedOperation): void {
    const { number, name, file, offsetBytes, lengthBytes, extra } = operation;
    const at = (this.#next % records) * fields;
    this.#values.set([number, this.#names.indexOf(name) + 1, file, offsetBytes, lengthBytes, extra], at);
    this.#next += 1;
  }

  close(): void {
    this.#memory.unmap();
  }
}

/** The operations in a log, the oldest first. */
export function readOperationLog(path: string, names: readonly string[]): readonly LoggedOperation[] {
  if (!existsSync(path)) return [];
  const { buffer, byteOffset } = readFileSync(path);
  const values = new Float64Array(buffer.slice(byteOffset, byteOffset + logBytes));
  const operations: LoggedOperation[] = [];
  for (let at = 0; at < values.length; at += fields) {
    const [number = 0, name = 0, file = 0, offsetBytes = 0, lengthBytes = 0, extra = 0] = values.subarray(at);
    if (name > 0) {
      operations.push({ number, name: names[name - 1] ?? '?', file, offsetBytes, lengthBytes, extra });
    }
  }
  return operations.sort((one, other) => one.number - other.number);
}

/** The last of them that touch a page of a file, or all of the file. */
export function operationsAt(
  operations: readonly LoggedOperation[],
  file: number,
  offsetBytes: number,
  count = 24,
): readonly LoggedOperation[] {
  const page = Math.floor(offsetBytes / pageBytes);
  const touches = ({ offsetBytes: from, lengthBytes }: LoggedOperation): boolean =>
    Math.floor(from / pageBytes) <= page && from + lengthBytes > page * pageBytes;
  return operations.filter((operation) => operation.file === file && touches(operation)).slice(-count);
}

export function describeOperation(operation: LoggedOperation): string {
  const { number, name, file, offsetBytes, lengthBytes, extra } = operation;
  const range = `${offsetBytes}..${offsetBytes + lengthBytes} (${lengthBytes} bytes)`;
  return `${String(number).padStart(9)} file ${file} ${name.padEnd(18)} ${range} ${extra}`;
}
