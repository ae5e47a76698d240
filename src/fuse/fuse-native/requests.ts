import createDebug from 'debug';
import { setMaxListeners } from 'node:events';
import { constants } from 'node:fs';
import { limits, type MaybePromise } from '../../base/index.js';
import {
  FileSystemError,
  notLocal,
  type AttributeChanges,
  type Attributes,
  type Caller,
  type ExtendedAttributeMode,
  type FileSystem,
  type InodeNumber,
} from '../../fs/index.js';
import { errnoNumbers, failureOf, notConnected } from '../errno.js';
import type { EngineStatus } from '../types.js';
import {
  allocateAddonMemory,
  operationCount,
  signalOf,
  timesOf,
  type Addon,
  type Args,
  type NativeHandler,
  type OperationName,
  type Payload,
  type RequestThread,
} from './addon.js';
import { Names } from './names.js';
import { OpenFiles, type OpenFile } from './open-files.js';
import {
  attributesRecord,
  attributesRecordLength,
  joinUint64,
  usageRecord,
  usageRecordLength,
} from './records.js';

const debug = createDebug('isr:fuse');

/** The kernel asks for one page where somebody waits for it, and for more where it guesses. */
const pageBytes = 4096;

/** chown(2): leave this id alone. */
const unchangedId = 0xffff_ffff;

/** setxattr(2) flags. */
const attributeModes: readonly ExtendedAttributeMode[] = ['either', 'create', 'replace'];

/** What an operation with a payload answers, beside its result of 0 or more. */
type Outcome<Name extends OperationName> = readonly [result: number, payload: Payload<Name>];

/** Operations whose whole answer is their result. */
type EffectName = {
  [Name in OperationName]: Payload<Name> extends [] ? Name : never;
}[OperationName];

/**
 * Translates the addon's path-based requests to calls of a file system. The only place that answers requests: each
 * one exactly once, failures as a negative errno.
 */
export class Requests {
  readonly handlers: readonly NativeHandler[];
  readonly implemented = new Uint32Array(operationCount);
  /** Memory for a new libfuse thread. */
  readonly allocateThread = (bytes: number): Buffer => {
    this.#threadsStarted += 1;
    return allocateAddonMemory(bytes);
  };
  /** Resolves when the kernel has begun to use the mount. */
  readonly initialized: Promise<void>;

  readonly #addon: Addon;
  readonly #fileSystem: FileSystem;
  readonly #names: Names;
  readonly #openFiles = new OpenFiles();
  readonly #stopping = new AbortController();
  #onInitialized: () => void = () => undefined;
  #onDrained: (() => void) | undefined;

  #requests = 0;
  #underWay = 0;
  #refusedAhead = 0;
  #errors = 0;
  #threadsStarted = 0;
  #readsWaiting = 0;
  readonly #readsInLine: (() => void)[] = [];

  constructor(addon: Addon, fileSystem: FileSystem) {
    this.#addon = addon;
    this.#fileSystem = fileSystem;
    this.#names = new Names(fileSystem);
    this.initialized = new Promise((resolve) => (this.#onInitialized = resolve));
    setMaxListeners(0, this.#stopping.signal);
    // The addon wants a function at every index, also where there is no operation.
    const handlers = new Array<NativeHandler>(operationCount).fill(() => undefined);
    for (const [name, handler] of this.#allHandlers()) {
      handlers[addon[`op_${name}`]] = handler;
      this.implemented[addon[`op_${name}`]] = 1;
    }
    this.handlers = handlers;
  }

  status(): EngineStatus {
    return {
      requests: this.#requests,
      requestsWaiting: this.#underWay,
      refusedAhead: this.#refusedAhead,
      errors: this.#errors,
      threadsStarted: this.#threadsStarted,
    };
  }

  /**
   * From now on the file system is not called any more. Reads that wait are aborted; resolves when no request is
   * under way and the files that the kernel left open are released.
   */
  async stop(): Promise<void> {
    this.#stopping.abort();
    if (this.#underWay > 0) await new Promise<void>((resolve) => (this.#onDrained = resolve));
    for (const { handle } of this.#openFiles.removeAll()) {
      try {
        await this.#fileSystem.release(handle);
      } catch (error) {
        debug('releasing a file that was left open failed: %O', error);
      }
    }
  }

  /** Answers one kind of request. */
  #handler<Name extends OperationName>(
    name: Name,
    emptyPayload: (args: Args<Name>) => Payload<Name>,
    work: (args: Args<Name>, thread: RequestThread) => MaybePromise<Outcome<Name>>,
  ): [Name, NativeHandler] {
    const signal = signalOf(this.#addon, name);
    const handler = (thread: RequestThread, _operation: number, ...args: Args<Name>): void => {
      const answer = ([result, payload]: Outcome<Name>): void => {
        signal(thread, result, ...payload);
        this.#underWay -= 1;
        if (this.#underWay === 0) this.#onDrained?.();
      };
      const fail = (error: unknown): Outcome<Name> => [-this.#errnoOf(name, error), emptyPayload(args)];

      this.#requests += 1;
      this.#underWay += 1;
      let outcome: MaybePromise<Outcome<Name>>;
      try {
        outcome = this.#stopping.signal.aborted ? [-notConnected, emptyPayload(args)] : work(args, thread);
      } catch (error) {
        outcome = fail(error);
      }
      if (outcome instanceof Promise) void outcome.catch(fail).then(answer);
      else answer(outcome);
    };
    return [name, handler];
  }

  #errnoOf(name: OperationName, error: unknown): number {
    const failure = failureOf(error);
    if (failure.serious) this.#errors += 1;
    if (failure.unexpected) debug('%s failed unexpectedly: %O', name, error);
    else if (failure.serious) debug('%s failed: %s', name, error);
    return failure.errno;
  }

  #effect<Name extends EffectName>(
    name: Name,
    work: (...args: Args<Name>) => MaybePromise<unknown>,
  ): [Name, NativeHandler] {
    const none = [] as Payload<Name>;
    const done: Outcome<Name> = [0, none];
    return this.#handler(
      name,
      () => none,
      (args) => whenDone(work(...args), () => done),
    );
  }

  #record<Name extends OperationName>(
    name: Name,
    empty: Payload<Name>,
    work: (...args: Args<Name>) => MaybePromise<Payload<Name>>,
  ): [Name, NativeHandler] {
    return this.#handler(
      name,
      () => empty,
      (args) => whenDone(work(...args), (payload) => [0, payload]),
    );
  }

  *#allHandlers(): Iterable<[OperationName, NativeHandler]> {
    yield this.#effect('init', () => this.#onInitialized());
    yield* this.#attributeHandlers();
    yield* this.#nameHandlers();
    yield* this.#fileHandlers();
    yield* this.#extendedAttributeHandlers();
  }

  *#attributeHandlers(): Iterable<[OperationName, NativeHandler]> {
    const fileSystem = this.#fileSystem;
    const change = (path: string, changes: AttributeChanges) =>
      fileSystem.setAttributes(this.#names.inode(path), changes);

    yield this.#record('getattr', [new Uint32Array(attributesRecordLength)], (path) => [
      attributesRecord(this.#attributes(path)),
    ]);
    yield this.#record('statfs', [new Uint32Array(usageRecordLength)], () => [
      usageRecord(fileSystem.usage(), limits.fileNameBytesMax),
    ]);
    yield this.#effect('chmod', (path, mode) => change(path, { permissions: mode & 0o7777 }));
    yield this.#effect('chown', (path, uid, gid) =>
      change(path, { ...(uid === unchangedId ? {} : { uid }), ...(gid === unchangedId ? {} : { gid }) }),
    );
    yield this.#effect('truncate', (path, low, high) => change(path, { sizeBytes: joinUint64(low, high) }));
    yield this.#effect('ftruncate', (_path, file, low, high) =>
      fileSystem.setAttributes(this.#openFiles.get(file).inode, { sizeBytes: joinUint64(low, high) }),
    );
    yield this.#handler(
      'utimens',
      () => [],
      (args, thread) => {
        const { accessMilliseconds, modifyMilliseconds } = timesOf(thread, args);
        const changed = change(args[0], {
          accessTimeNs: accessMilliseconds * 1_000_000n,
          modifyTimeNs: modifyMilliseconds * 1_000_000n,
        });
        return whenDone(changed, () => [0, []]);
      },
    );
  }

  *#nameHandlers(): Iterable<[OperationName, NativeHandler]> {
    const fileSystem = this.#fileSystem;
    const names = this.#names;

    yield this.#record('readdir', [[], []], (path) => this.#readDirectory(names.inode(path)));
    yield this.#record('readlink', [''], (path) => [fileSystem.readLink(names.inode(path))]);
    yield this.#effect('mkdir', (path, permissions) => {
      const { parent, name } = names.place(path);
      return fileSystem.makeDirectory(parent, name, permissions & 0o7777, this.#ownerFor(parent));
    });
    yield this.#effect('mknod', (path, mode) => {
      const { parent, name } = names.place(path);
      return fileSystem.makeNode(parent, name, mode, this.#ownerFor(parent));
    });
    yield this.#effect('symlink', (target, path) => {
      const { parent, name } = names.place(path);
      return fileSystem.makeSymlink(parent, name, target, this.#ownerFor(parent));
    });
    yield this.#effect('link', (path, newPath) => {
      const to = names.place(newPath);
      return fileSystem.link(names.inode(path), to.parent, to.name);
    });
    yield this.#effect('rename', (path, newPath) => this.#rename(path, newPath));
    yield this.#effect('unlink', (path) => {
      const { parent, name } = names.place(path);
      return names.unhide(name) ? undefined : fileSystem.unlink(parent, name);
    });
    yield this.#effect('rmdir', (path) => {
      const place = names.place(path);
      names.checkNothingHiddenIn(names.lookup(place).inode);
      return fileSystem.removeDirectory(place.parent, place.name);
    });
    yield this.#effect('fsyncdir', () => fileSystem.syncAll());
  }

  *#fileHandlers(): Iterable<[OperationName, NativeHandler]> {
    const fileSystem = this.#fileSystem;

    yield this.#record('open', [0], (path, flags) => {
      const inode = this.#names.inode(path);
      const direct = (flags & constants.O_DIRECT) !== 0;
      return whenDone(fileSystem.open(inode, flags), (handle) => [
        this.#openFiles.add({ handle, inode, direct }),
      ]);
    });
    yield this.#record('create', [0], (path, permissions) => {
      const { parent, name } = this.#names.place(path);
      const owner = this.#ownerFor(parent);
      const created = fileSystem.create(parent, name, permissions & 0o7777, constants.O_RDWR, owner);
      return whenDone(created, ({ attributes: { inode }, handle }) => [
        this.#openFiles.add({ handle, inode, direct: false }),
      ]);
    });
    yield this.#effect('release', (_path, file) => this.#release(file));
    yield this.#effect('fsync', (_path, dataOnly, file) =>
      fileSystem.fsync(this.#openFiles.get(file).handle, dataOnly !== 0),
    );
    yield this.#handler(
      'read',
      ([, , buffer]) => [0, buffer.buffer],
      ([, file, buffer, , low, high]) =>
        whenDone(this.#read(this.#openFiles.get(file), joinUint64(low, high), buffer), (result) => [
          result,
          [0, buffer.buffer],
        ]),
    );
    yield this.#handler(
      'write',
      ([, , buffer]) => [0, buffer.buffer],
      ([, file, buffer, , low, high]) =>
        whenDone(
          fileSystem.write(this.#openFiles.get(file).handle, joinUint64(low, high), buffer),
          (writtenBytes) => [writtenBytes, [0, buffer.buffer]],
        ),
    );
  }

  *#extendedAttributeHandlers(): Iterable<[OperationName, NativeHandler]> {
    const fileSystem = this.#fileSystem;
    const names = this.#names;

    yield this.#handler(
      'setxattr',
      ([, , value]) => [value.buffer],
      ([path, name, value, , flags]) => {
        const mode = attributeModes[flags];
        if (mode === undefined) throw new FileSystemError('EINVAL', `setxattr does not know flags ${flags}.`);
        checkAttributeName(name);
        const set = fileSystem.setExtendedAttribute(names.inode(path), name, value, mode);
        return whenDone(set, () => [0, [value.buffer]]);
      },
    );
    yield this.#handler(
      'getxattr',
      ([, , into]) => [into.buffer],
      ([path, name, into]) => {
        checkAttributeName(name);
        const value = fileSystem.getExtendedAttribute(names.inode(path), name);
        return [fill(into, value), [into.buffer]];
      },
    );
    yield this.#handler(
      'listxattr',
      ([, into]) => [into.buffer],
      ([path, into]) => {
        const list = fileSystem.listExtendedAttributes(names.inode(path)).map((name) => `${name}\0`);
        return [fill(into, Buffer.from(list.join(''))), [into.buffer]];
      },
    );
    yield this.#effect('removexattr', (path, name) =>
      fileSystem.removeExtendedAttribute(names.inode(path), name),
    );
  }

  /** libfuse takes one from the links of a hidden file, for the hidden name that it believes in. */
  #attributes(path: string): Attributes {
    const attributes = this.#fileSystem.getAttributes(this.#names.inode(path));
    if (!this.#names.isHidden(path)) return attributes;
    return { ...attributes, linkCount: attributes.linkCount + 1 };
  }

  #readDirectory(directory: InodeNumber): Payload<'readdir'> {
    const parent = this.#fileSystem.parentOf(directory);
    const entries = this.#fileSystem.readDirectory(directory);
    return [
      ['.', '..', ...entries.map(({ name }) => name)],
      [
        attributesRecord(this.#fileSystem.getAttributes(directory)),
        attributesRecord(this.#fileSystem.getAttributes(parent)),
        ...entries.map(({ attributes }) => attributesRecord(attributes)),
      ],
    ];
  }

  #rename(path: string, newPath: string): MaybePromise<void> {
    const names = this.#names;
    const from = names.place(path);
    const to = names.place(newPath);
    if (names.isHiding(from, to)) {
      const { inode } = names.lookup(from);
      // Closed by now, a moment after libfuse looked: then libfuse's plan is as good, and it unlinks the name itself.
      if (this.#openFiles.hasInode(inode)) {
        return whenDone(this.#fileSystem.unlink(from.parent, from.name), () => names.hide(inode, to));
      }
    }
    const replaced = this.#lookupIfThere(to.parent, to.name);
    if (replaced !== undefined) names.checkNothingHiddenIn(replaced);
    return this.#fileSystem.rename(from.parent, from.name, to.parent, to.name, 'replace');
  }

  #lookupIfThere(parent: InodeNumber, name: string): InodeNumber | undefined {
    try {
      return this.#fileSystem.lookup(parent, name).inode;
    } catch (error) {
      if (error instanceof FileSystemError && error.errno === 'ENOENT') return undefined;
      throw error;
    }
  }

  #release(file: number): MaybePromise<void> {
    const { handle, inode } = this.#openFiles.remove(file);
    if (!this.#openFiles.hasInode(inode)) this.#names.unhideInode(inode);
    return this.#fileSystem.release(handle);
  }

  /** Result of a read request: bytes, or `-EAGAIN` for read-ahead over data that is not local. */
  #read(file: OpenFile, offsetBytes: number, buffer: Buffer): MaybePromise<number> {
    const intent = buffer.length > pageBytes && !file.direct ? 'ahead' : 'demand';
    if (this.#readsWaiting >= limits.kernelRequestsWaiting) {
      if (intent === 'ahead') return this.#refuseAhead();
      return new Promise<void>((resolve) => this.#readsInLine.push(resolve)).then(() =>
        this.#read(file, offsetBytes, buffer),
      );
    }
    const read = this.#fileSystem.read(file.handle, offsetBytes, buffer, intent, this.#stopping.signal);
    if (read instanceof Promise) {
      this.#readsWaiting += 1;
      return read
        .finally(() => {
          this.#readsWaiting -= 1;
          this.#readsInLine.shift()?.();
        })
        .then((answer) => (answer === notLocal ? this.#refuseAhead() : answer));
    }
    return read === notLocal ? this.#refuseAhead() : read;
  }

  #refuseAhead(): number {
    this.#refusedAhead += 1;
    return -errnoNumbers.EAGAIN;
  }

  /** libfuse 2 knows who asks, but the addon does not say: what is made belongs to its directory's owner. */
  #ownerFor(directory: InodeNumber): Caller {
    const { uid, gid } = this.#fileSystem.getAttributes(directory);
    return { uid, gid };
  }
}

/** `transform` of a value that may come later. */
function whenDone<Value, Result>(
  value: MaybePromise<Value>,
  transform: (value: Value) => Result,
): MaybePromise<Result> {
  return value instanceof Promise ? value.then(transform) : transform(value);
}

/**
 * Attributes of the system (access control lists) mean something to the kernel only where an engine can tell it so;
 * stored without effect they would make `cp -a` believe that it had set permissions.
 */
function checkAttributeName(name: string): void {
  if (name.startsWith('system.')) throw new FileSystemError('EOPNOTSUPP', `${name} is not supported.`);
}

/** Answers getxattr and listxattr: an empty buffer only asks for the length. */
function fill(into: Buffer, value: Uint8Array): number {
  if (into.length > 0) {
    if (value.length > into.length) throw new FileSystemError('ERANGE', 'The buffer is too small.');
    into.set(value);
  }
  return value.length;
}
