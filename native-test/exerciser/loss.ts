/**
 * What calls end with when nobody serves the mount any more. `EFAULT`: a page of a mapping could not be had; `EIO`: one could not
 * be written back.
 */
const lossCodes = ['ENOTCONN', 'ECONNABORTED', 'ENODEV', 'EFAULT', 'EIO'];

const lossPattern = new RegExp(`\\b(${lossCodes.join('|')})\\b`);

/** An operation did not end, because its mount is lost. */
export class MountLost extends Error {
  override readonly name = 'MountLost';
}

/** Whether an operation failed because the mount is lost. */
export function isLoss(error: unknown): boolean {
  if (error instanceof MountLost) return true;
  return error instanceof Error && 'code' in error && lossCodes.includes(String(error.code));
}

/** Whether the outcome of an operation tells of a loss. */
export function tellsOfLoss(outcome: string): boolean {
  return lossPattern.test(outcome);
}
