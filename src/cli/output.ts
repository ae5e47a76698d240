import { debugNamespaces } from './debug.js';
import { reportError, type ExitCode } from './exit-codes.js';

/** Where a command's result, remarks and errors go: the result to stdout, everything else to stderr. */
export class Output {
  readonly json: boolean;

  constructor(options: { readonly json: boolean }) {
    this.json = options.json;
  }

  /** The one result of a command: a JSON document, or text for people. */
  result(value: object, text: string): void {
    process.stdout.write(`${this.json ? JSON.stringify(value, null, 2) : text}\n`);
  }

  /** Something to know beside the result; for people only. */
  remark(text: string): void {
    if (!this.json) process.stderr.write(`${text}\n`);
  }

  /** Says what went wrong and returns the exit code for it. The stack is shown with `DEBUG=isr*` only. */
  error(error: unknown): ExitCode {
    const { exitCode, ...report } = reportError(error);
    if (this.json) {
      process.stderr.write(`${JSON.stringify({ error: report })}\n`);
    } else {
      process.stderr.write(`isr: ${report.message}\n`);
      if (report.remedy !== undefined) process.stderr.write(`  ${report.remedy}\n`);
    }
    if (debugNamespaces() !== undefined && error instanceof Error) {
      process.stderr.write(`${stackWithCauses(error)}\n`);
    }
    return exitCode;
  }
}

function stackWithCauses(error: Error): string {
  const own = error.stack ?? String(error);
  return error.cause instanceof Error ? `${own}\nCaused by: ${stackWithCauses(error.cause)}` : own;
}
