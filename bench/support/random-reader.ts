/**
 * Reads pages of a file in random order, each once, and prints as JSON how long that took, and the median of one.
 * Usage: random-reader FILE FIRST_PAGE PAGES READS. Starts when its standard input ends.
 */
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

const pageBytes = 4096;
const [path = '', ...numbers] = process.argv.slice(2);
const [first = 0, pages = 0, reads = 0] = numbers.map(Number);

const order = Array.from({ length: pages }, (_, index) => first + index);
let seed = 88_172_645 + first;
for (let last = order.length - 1; last > 0; last--) {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
  const other = seed % (last + 1);
  [order[last], order[other]] = [order[other] ?? 0, order[last] ?? 0];
}

const file = openSync(path, 'r');
const page = Buffer.alloc(pageBytes);
process.stdout.write('ready\n');
readFileSync(0);
const microseconds = new Float64Array(Math.min(reads, pages));
const startedMs = performance.now();
for (let index = 0; index < microseconds.length; index++) {
  const fromMs = performance.now();
  readSync(file, page, 0, pageBytes, (order[index] ?? 0) * pageBytes);
  microseconds[index] = (performance.now() - fromMs) * 1000;
}
const seconds = (performance.now() - startedMs) / 1000;
closeSync(file);
microseconds.sort();
process.stdout.write(JSON.stringify({ seconds, medianMicroseconds: microseconds[microseconds.length >> 1] }));
