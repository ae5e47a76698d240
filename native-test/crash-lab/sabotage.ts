import { closeSync, openSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** Ways to break what the lab looks at, so as to see that it notices. */
export type Sabotage = 'loseRecords' | 'loseBytes';

/** Takes something away that was acknowledged. Nobody serves the overlay meanwhile. */
export function sabotage(how: Sabotage, overlayPath: string): void {
  if (how === 'loseRecords') cutJournal(join(overlayPath, 'journal'));
  else clearPages(join(overlayPath, 'data'));
}

/** As a journal would be whose newest records were not written when their calls returned. */
function cutJournal(path: string): void {
  const lines = readFileSync(path, 'latin1').split('\n');
  const changes = lines.flatMap((line, index) => (/"type":"(wrote|change)"/.test(line) ? [index] : []));
  const kept = lines.slice(0, changes.at(-lostRecords) ?? lines.length);
  const text = `${kept.join('\n')}\n`;
  writeFileSync(path, text.padEnd(statSync(path).size, '\0'), 'latin1');
}

/** More than the one that was under way. */
const lostRecords = 8;

/** As data files would be that were not written when their calls returned. */
function clearPages(directory: string): void {
  for (const name of readdirSync(directory)) {
    const fd = openSync(join(directory, name), 'r+');
    try {
      const { size } = statSync(join(directory, name));
      writeSync(fd, Buffer.alloc(size), 0, size, 0);
    } finally {
      closeSync(fd);
    }
  }
}
