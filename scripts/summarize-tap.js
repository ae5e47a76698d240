// Reads a TAP file of tap's own making: prints each test point that failed with its diagnostics, then a last line
// `N passed, N failed` (and `, N skipped`) that counts the test points of leaf tests.
import { readFileSync } from 'node:fs';

/** What is said of one failure: enough to tell what happened, whatever it compared. */
const diagnosticLinesMax = 60;
const failuresShownMax = 40;

const lines = readFileSync(process.argv[2], 'utf8').split('\n');
const counts = { passed: 0, failed: 0, skipped: 0 };
const failures = [];
/** Names of the subtests that are open, outermost first, with their indentation. */
const open = [];
let fileFailed = false;
/** A point that closes a subtest only repeats what its own points said. */
let previousIndent = 0;

for (const [number, line] of lines.entries()) {
  const subtest = /^( *)# Subtest: (.*)$/.exec(line);
  if (subtest !== null) {
    leaveTo(subtest[1].length);
    open.push({ indent: subtest[1].length, name: subtest[2] });
    continue;
  }
  const point = /^( *)(not )?ok \d+(.*)$/.exec(line);
  if (point === null) continue;
  const [, spaces, not, rest] = point;
  const closesSubtest = spaces.length < previousIndent;
  previousIndent = spaces.length;
  leaveTo(spaces.length);
  const isSkipped = /# (skip|todo)/i.test(rest);
  if (not !== undefined && !isSkipped) {
    fileFailed ||= spaces === '';
    if (!closesSubtest) failures.push(describe(number, rest));
  }
  if (isSkipped) counts.skipped += 1;
  else if (closesSubtest) continue;
  else if (not === undefined) counts.passed += 1;
  else counts.failed += 1;
}
if (fileFailed && counts.failed === 0) counts.failed = 1;

for (const failure of failures.slice(0, failuresShownMax)) console.log(`${failure}\n`);
if (failures.length > failuresShownMax)
  console.log(`and ${failures.length - failuresShownMax} more failures\n`);
const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
process.exitCode = counts.failed > 0 || counts.passed === 0 ? 1 : 0;

/** Subtests whose points are indented deeper than this have ended. */
function leaveTo(indent) {
  while (open.length > 0 && open.at(-1).indent >= indent) open.pop();
}

function describe(number, rest) {
  const path = [...open.map(({ name }) => name), rest.replace(/^ - /, '').replace(/ # time=.*$/, '')];
  const diagnostics = [];
  if (/^ *---/.test(lines[number + 1] ?? '')) {
    for (let at = number + 2; at < lines.length && !/^ *\.\.\.$/.test(lines[at]); at += 1) {
      diagnostics.push(lines[at]);
    }
  }
  return [`FAILED: ${path.join(' > ')}`, ...diagnostics.slice(0, diagnosticLinesMax)].join('\n');
}
