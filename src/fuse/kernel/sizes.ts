import { fuse_in_header, fuse_out_header, fuse_write_in, readBufferBytesMin } from './protocol.js';

const pageBytes = 4096;

/** Longest read and write: what Linux allows (`FUSE_MAX_MAX_PAGES`), since the cost of a request is spread over it. */
export const transferBytesMax = 1024 * 1024;
export const transferPagesMax = transferBytesMax / pageBytes;

/** A buffer of this size takes any request: the kernel insists on room for the longest write before it sends any. */
export const requestBytesMax = Math.max(
  fuse_in_header.bytes + fuse_write_in.bytes + transferBytesMax,
  readBufferBytesMin,
);

export const answerBytesMax = fuse_out_header.bytes + transferBytesMax;
