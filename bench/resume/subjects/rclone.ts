import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { lazy } from './lazy.js';

/** Of one request: without a limit they double, and what is asked for far beyond the place that is read is thrown away. */
const chunkSize = '256K';

/**
 * `rclone mount` over the web server's plain files, all in one mount. With a full cache it keeps what it has read in sparse
 * files, and QEMU may open the memory for writing, though it writes nothing.
 */
export const rclone = lazy({
  name: 'rclone',
  title: 'rclone mount over HTTP, full cache',
  part: 'state',
  async mount(files, directory, { link }) {
    const mountPath = join(directory, 'files');
    await mkdir(mountPath);
    return [
      {
        program: 'rclone',
        parameters: [
          ...['mount', ':http:state', mountPath, '--http-url', link.url, '--config', ''],
          ...['--cache-dir', join(directory, 'cache'), '--vfs-cache-mode', 'full'],
          ...['--vfs-read-chunk-size', chunkSize, '--vfs-read-chunk-size-limit', chunkSize],
          ...['--vfs-read-ahead', '0', '--buffer-size', '0'],
          ...['--no-modtime', '--no-checksum', '--dir-cache-time', '1h', '--poll-interval', '0'],
        ],
        mountPaths: [mountPath],
        shows: Object.fromEntries(files.map(({ name }) => [name, join(mountPath, name)])),
      },
    ];
  },
});
