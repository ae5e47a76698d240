import type { StallCause } from '../daemon/index.js';
import type { WaitPart } from '../fetch/index.js';

interface CauseText {
  /** A few words for a table. */
  readonly label: string;
  /** What was so, and what would have avoided it: one sentence. */
  readonly advice: (vmName: string) => string;
}

/** What a cause is called, and what helps against it. */
export const causeTexts: Readonly<Record<StallCause, CauseText>> = {
  failure: {
    label: 'a request failed',
    advice: (vmName) =>
      `A request to the store failed or stood still and was made again: \`isr status ${vmName}\` counts what goes wrong with the store or the way to it.`,
  },
  daemon: {
    label: 'the daemon was late',
    advice: () => 'The daemon got to it late, because this host had too little processor time for it.',
  },
  sample: {
    label: 'left out on purpose',
    advice: () =>
      'It was on this host, and left out of the page cache as a sample that tells whether the trace is still right.',
  },
  local: {
    label: 'opened from this host',
    advice: () =>
      'It was on this host and had to be read and opened: a replay that has come that far avoids it, and so does a larger `memory_cache` for what is read again.',
  },
  map: {
    label: "the file's map came first",
    advice: (vmName) =>
      `Part of the file's map had to be fetched before its data: \`isr warm ${vmName}\` has it on this host.`,
  },
  turn: {
    label: 'other requests came first',
    advice: () =>
      'It waited for its turn behind other requests, or for a cap (`bandwidth_mbps`, `requests_in_flight`).',
  },
  link: {
    label: 'the link was the bound',
    advice: (vmName) =>
      `It was to be replayed, and the link had carried all that it can: \`isr warm ${vmName}\` before the resume, a tier near this host or a faster link would have avoided it.`,
  },
  arriving: {
    label: 'on its way already',
    advice: () =>
      'It was being fetched ahead of use when the guest wanted it: a resume that begins a little later, or a `isr warm` before it, finds it there.',
  },
  behind: {
    label: 'replay not so far',
    advice: () =>
      'It is in the trace, and the replay had not come that far: `isr warm` gives it a head start.',
  },
  gone: {
    label: 'replayed, then gone',
    advice: () =>
      'It was replayed, and is not on this host any more: a larger `local_cache`, or more free memory for the page cache, keeps it.',
  },
  untraced: {
    label: 'not in the trace',
    advice: () =>
      'No resume that is remembered has wanted it; this one is recorded, so that the next brings it.',
  },
  noTrace: {
    label: 'no trace yet',
    advice: () =>
      'There was no trace of an earlier resume to replay; this one is recorded, so that the next brings it.',
  },
  noPrefetch: {
    label: 'no replay',
    advice: () =>
      'Nothing was replayed at that time: `--no-prefetch` was given, or the worker that replayed had been replaced.',
  },
  noResume: {
    label: 'nothing was expected',
    advice: (vmName) =>
      `No guest was resumed, so that nothing was known to be wanted: \`isr warm ${vmName}\` fetches ahead of use.`,
  },
};

/** What a wait is for, in the order of a fetch. */
export const partLabels: Readonly<Record<WaitPart, string>> = {
  disk: "this host's disk",
  tier: 'lookaside places',
  queue: 'the turn to ask',
  retry: 'failed requests',
  roundTrip: 'the round trip',
  transfer: 'the transfer',
  decode: 'decoding',
  daemon: 'the daemon',
};
