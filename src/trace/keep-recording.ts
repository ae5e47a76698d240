import type { StoredTrace, Trace, VmHistory } from '../repo/index.js';
import type { RequestOptions } from '../store/index.js';
import { mergeTraces } from './merge.js';

/**
 * Stores a recording, merged with what is known of the VM's earlier resumes; `assumed` as for `mergeTraces`. Undefined when
 * nothing was written: there is nothing new, or other hosts kept storing theirs. Rejects with `ReadOnlyKey` and the
 * errors of the store; a caller that serves a guest must go on then.
 */
export async function keepRecording(
  history: VmHistory,
  recorded: Trace,
  options: RequestOptions & { readonly assumed?: ReadonlySet<string> } = {},
): Promise<StoredTrace | undefined> {
  if (recorded.entries.length === 0 && (options.assumed?.size ?? 0) === 0) return undefined;
  return history.writeTrace((known) => mergeTraces(known, recorded, options.assumed), options);
}
