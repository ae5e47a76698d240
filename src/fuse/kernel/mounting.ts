import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, constants } from 'node:fs/promises';
import { closeSync, constants as fileConstants, openSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { InvalidInput, systemErrorCode } from '../../base/index.js';
import { mountFileSystem, receiveDescriptor, socketPair } from '../../system/index.js';
import { EngineUnavailable, MountFailed } from '../errors.js';
import { mountType } from '../mount-table.js';
import type { EngineOptions } from '../types.js';
import { transferBytesMax } from './sizes.js';

const device = '/dev/fuse';

/** The descriptors that a child gets are numbered from 0; after the standard ones comes the socket. */
const socketInChild = 3;

/** Mounts, and returns the descriptor of the connection. Requests wait in it until they are read. */
export type Mounter = (options: EngineOptions) => Promise<number>;

/** By mount(2) for root, through fusermount3 for others. */
export const mountAsThisUser: Mounter = (options) =>
  process.geteuid?.() === 0 ? mountAsRoot(options) : mountThroughFusermount(options);

/** By mount(2). @throws MountFailed, EngineUnavailable, InvalidInput */
export const mountAsRoot: Mounter = async (options) => {
  checkSourceName(options);
  const fd = await openDevice();
  const data = [
    `fd=${fd}`,
    'rootmode=40000',
    `user_id=${process.geteuid?.() ?? 0}`,
    `group_id=${process.getegid?.() ?? 0}`,
    ...sharedOptions(options),
  ];
  try {
    mountFileSystem(options.sourceName, options.mountPath, mountType, data.join(','));
    return fd;
  } catch (cause) {
    closeSync(fd);
    throw refused(options, systemErrorCode(cause) ?? String(cause), cause);
  }
};

/**
 * Through fusermount3, which has the rights to mount that an ordinary user lacks: it mounts, and sends the descriptor
 * back over a socket.
 * @throws MountFailed, EngineUnavailable, InvalidInput
 */
export const mountThroughFusermount: Mounter = async (options) => {
  checkSourceName(options);
  const type = mountType.split('.')[1] ?? '';
  const mountOptions = ['rw', 'nosuid', 'nodev', `fsname=${options.sourceName}`, `subtype=${type}`];
  const [ours, theirs] = socketPair();
  try {
    const child = spawn(
      'fusermount3',
      ['-o', [...mountOptions, ...sharedOptions(options)].join(','), '--', options.mountPath],
      {
        stdio: ['ignore', 'ignore', 'pipe', theirs],
        env: { PATH: process.env['PATH'], LC_ALL: 'C', _FUSE_COMMFD: String(socketInChild) },
      },
    );
    const ended = once(child, 'close') as Promise<[number | null]>;
    const [[exitCode], complaint] = await Promise.all([ended, text(child.stderr as NodeJS.ReadableStream)]);
    const fd = exitCode === 0 ? receiveDescriptor(ours) : undefined;
    if (fd === undefined) throw refused(options, complaint.trim());
    return fd;
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new EngineUnavailable('fusermount3, with which ordinary users mount, is not installed.', {
      cause: error,
      remedy: 'Install it: apt-get install fuse3',
    });
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
};

/** As in mount.fuse3(8). */
function sharedOptions({ allowOther }: EngineOptions): readonly string[] {
  return ['default_permissions', ...(allowOther ? ['allow_other'] : []), `max_read=${transferBytesMax}`];
}

/** Nothing that could be taken for another option. */
function checkSourceName({ sourceName }: EngineOptions): void {
  if (!/^[A-Za-z0-9._:-]{1,255}$/.test(sourceName)) {
    throw new InvalidInput(`${JSON.stringify(sourceName)} cannot name a mount.`);
  }
}

async function openDevice(): Promise<number> {
  try {
    await access(device, constants.R_OK | constants.W_OK);
    return openSync(device, fileConstants.O_RDWR | fileConstants.O_NONBLOCK);
  } catch (cause) {
    throw new EngineUnavailable(`${device} cannot be opened (${systemErrorCode(cause) ?? 'unknown'}).`, {
      cause,
      remedy: 'Load the kernel module fuse, and give this user access to the device.',
    });
  }
}

function refused({ mountPath, allowOther }: EngineOptions, why: string, cause?: unknown): MountFailed {
  const isRoot = process.geteuid?.() === 0;
  return new MountFailed(`Mounting at ${mountPath} was refused: ${why}.`, {
    facts: { mountPath },
    cause,
    remedy:
      allowOther && !isRoot
        ? 'Put the line user_allow_other into /etc/fuse.conf, or mount for yourself only.'
        : 'In a container, allow mounts (CAP_SYS_ADMIN) and the device /dev/fuse.',
  });
}
