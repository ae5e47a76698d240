// Reads a TAP file of tap's own making and prints `N passed, N failed` (and `, N skipped`): test points of leaf tests.
import { readFileSync } from 'node:fs';

const counts = { passed: 0, failed: 0, skipped: 0 };
/** A point that closes a subtest only repeats what its own points said. */
let previousIndent = 0;
for (const line of readFileSync(process.argv[2], 'utf8').split('\n')) {
  const point = /^( *)(not )?ok \d+(.*)$/.exec(line);
  if (point === null) continue;
  const [, spaces, not, rest] = point;
  const closesSubtest = spaces.length < previousIndent;
  previousIndent = spaces.length;
  if (/# (skip|todo)/i.test(rest)) counts.skipped += 1;
  else if (closesSubtest && not === undefined) continue;
  else if (not !== undefined) counts.failed += closesSubtest ? 0 : 1;
  else counts.passed += 1;
}
const failedAtAll = /^not ok/m.test(readFileSync(process.argv[2], 'utf8'));
if (failedAtAll && counts.failed === 0) counts.failed = 1;
const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;
