import { mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { deflate, type ZlibOptions } from 'node:zlib';
import type { Prepared } from '../prepared.js';
import { lazy } from './lazy.js';

const deflateAsync = promisify<Buffer, ZlibOptions, Buffer>(deflate);

const blockBytes = 2 ** 20;

/**
 * s3backer as its manual advises for slow links: large blocks, compressed; blocks are cached in memory and read ahead by
 * several threads. Blocks lie as plain objects on the web server, which is as good to it as S3.
 */
export const s3backer = lazy({
  name: 's3backer',
  title: 's3backer, 1 MiB blocks, deflate',
  part: 's3backer',
  stage: stageBlocks,
  async mount(files, directory, { link }) {
    for (const { name } of files) await mkdir(join(directory, name));
    return files.map(({ name, lengthBytes }) => {
      const mountPath = join(directory, name);
      return {
        program: 's3backer',
        parameters: [
          ...['-f', '--force', '--quiet', '--accessType=public-read', `--baseURL=${link.url}/`],
          ...[`--prefix=${name}/`, `--size=${lengthBytes}`, `--blockSize=${blockBytes}`],
          ...['--md5CacheSize=0', '--md5CacheTime=0', '--minWriteDelay=0'],
          ...['--blockCacheSize=4096', '--blockCacheThreads=20', '--compress=1'],
          ...['s3backer', mountPath],
        ],
        mountPaths: [mountPath],
        shows: { [name]: join(mountPath, 'file') },
      };
    });
  },
});

/** What `s3backer --compress=1` would have stored: an object a block, none for one that is all zero. */
async function stageBlocks(prepared: Prepared, file: string, directory: string): Promise<void> {
  const source = await open(join(prepared.root, 'state', file));
  try {
    const { size } = await source.stat();
    const zeros = Buffer.alloc(blockBytes);
    for (let block = 0; block * blockBytes < size; block += 1) {
      const content = Buffer.alloc(blockBytes);
      await source.read(content, 0, blockBytes, block * blockBytes);
      if (content.equals(zeros)) continue;
      const name = block.toString(16).padStart(8, '0');
      await writeFile(join(directory, name), await deflateAsync(content, { level: 1 }));
    }
  } finally {
    await source.close();
  }
}
