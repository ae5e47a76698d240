import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Prepared } from '../prepared.js';
import { lazy, type LazyFile } from './lazy.js';
import type { Place } from './subject.js';

const run = promisify(execFile);

const program = 'qemu-storage-daemon';
const nbdPort = 10809;

/**
 * A compressed qcow2 in QEMU's own tools: the server exports the image's bytes by NBD; the client reads them as qcow2, so
 * that what crosses the link is compressed, and shows the result as a plain file through FUSE.
 */
export const qcow2 = lazy({
  name: 'qcow2-nbd',
  title: 'compressed qcow2 over NBD, FUSE export',
  part: 'qcow2',
  stage: stageImage,
  serve: serveImages,
  async mount(files, directory, { link }) {
    const paths = new Map(files.map(({ name }) => [name, join(directory, name)]));
    for (const path of paths.values()) await writeFile(path, '');
    const server = `server.type=inet,server.host=${link.address},server.port=${nbdPort}`;
    return [
      {
        program,
        parameters: [...paths].flatMap(([name, path]) => [
          ...['--blockdev', `driver=nbd,node-name=image-${name},export=${name},read-only=on,${server}`],
          ...['--blockdev', `driver=qcow2,node-name=${name},file=image-${name},read-only=on`],
          ...['--export', `type=fuse,id=${name},node-name=${name},mountpoint=${path}`],
        ]),
        mountPaths: [...paths.values()],
        shows: Object.fromEntries(paths),
      },
    ];
  },
});

async function stageImage(prepared: Prepared, file: string, directory: string): Promise<void> {
  const options = ['-f', 'raw', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd'];
  await run('qemu-img', ['convert', ...options, join(prepared.root, 'state', file), imageIn(directory)]);
}

function imageIn(directory: string): string {
  return join(directory, 'image.qcow2');
}

function serveImages(files: readonly LazyFile[], { prepared, link }: Place): Promise<AsyncDisposable> {
  const exports = files.flatMap(({ name }) => {
    const image = imageIn(join(prepared.root, 'qcow2', name));
    return [
      ...['--blockdev', `driver=file,node-name=${name},read-only=on,filename=${image}`],
      ...['--export', `type=nbd,id=${name},node-name=${name},name=${name}`],
    ];
  });
  const server = ['--nbd-server', `addr.type=inet,addr.host=127.0.0.1,addr.port=${nbdPort}`];
  return link.serve(program, [...server, ...exports], nbdPort);
}
