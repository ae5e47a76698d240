import { readFile } from 'node:fs/promises';

/** The unit of /proc/PID/stat on every Linux that Node.js runs on. */
const ticksPerSecond = 100;

/** Processor time of a process with all its threads, in user and kernel mode. */
export async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
  // The name in parentheses may have spaces; user and system time are the 12th and 13th field after it.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
