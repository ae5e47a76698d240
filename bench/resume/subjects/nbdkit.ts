import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { lazy } from './lazy.js';

/**
 * nbdkit on the client reads plain files from the web server, and nbdfuse shows each as a file. Larger blocks of the filters
 * `cow` and `cache` make no difference: the kernel reads further ahead than they do.
 */
export const nbdkit = lazy({
  name: 'nbdkit',
  title: 'nbdkit curl + cow, nbdfuse',
  part: 'state',
  async mount(files, directory, { link }) {
    for (const { name } of files) await mkdir(join(directory, name));
    return files.map(({ name }) => {
      const mountPath = join(directory, name);
      return {
        program: 'nbdfuse',
        parameters: [
          ...[join(mountPath, name), '--socket-activation'],
          ...['nbdkit', '--exit-with-parent', '--filter=cow', 'curl', `url=${link.url}/state/${name}`],
        ],
        mountPaths: [mountPath],
        shows: { [name]: join(mountPath, name) },
      };
    });
  },
});
