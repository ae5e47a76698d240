import { IsrError } from '../base/index.js';

/** The command line does not parse. */
export class Usage extends IsrError {
  override readonly code = 'USAGE';
}

/** A file that would have been overwritten. */
export class FileExists extends IsrError {
  override readonly code = 'FILE_EXISTS';
  constructor(path: string) {
    super(`${path} exists already and is left alone.`, {
      facts: { path },
      remedy: 'Choose another name, or move the file away.',
    });
  }
}

/** The VM's unpublished changes on this host would be left behind. */
export class UnpublishedChanges extends IsrError {
  override readonly code = 'UNPUBLISHED_CHANGES';
  constructor(vmName: string) {
    super(`${vmName} has unpublished changes on this host.`, {
      facts: { vm: vmName },
      remedy: `Publish them with \`isr publish ${vmName}\` or drop them with \`isr discard ${vmName}\`, then try again.`,
    });
  }
}

/** The VM is not mounted, and no guest of it was resumed on this host. */
export class NothingToExplain extends IsrError {
  override readonly code = 'NOTHING_TO_EXPLAIN';
  constructor(vmName: string) {
    super(`No resume of ${vmName} was watched on this host.`, {
      facts: { vm: vmName },
      remedy: `\`isr resume ${vmName}\` is watched, and what waited can be explained from then on.`,
    });
  }
}

/** The VM has no such trace, or none at all. */
export class TraceMissing extends IsrError {
  override readonly code = 'TRACE_MISSING';
  constructor(vmName: string, number: number | undefined) {
    super(
      number === undefined
        ? `No resume of ${vmName} was recorded yet.`
        : `There is no trace ${number} of ${vmName}.`,
      {
        facts: { vm: vmName, number: number ?? null },
        remedy: `A resume records one; \`isr trace ls ${vmName}\` lists what there is.`,
      },
    );
  }
}
