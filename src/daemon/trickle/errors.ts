import { IsrError } from '../../base/index.js';

/** A pack that was to be stored ahead of a publish cannot be recorded, so no publish would use it. */
export class PackNotRecorded extends IsrError {
  override readonly code = 'PACK_NOT_RECORDED';
  constructor() {
    super('No more can be stored ahead: the record of what was stored is full, or cannot be written.', {
      remedy: 'Publish: after that, changes are stored ahead again.',
    });
  }
}
