import { execFile } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { isProcessAlive } from '../../src/system/index.js';
import { compileDelay, DelayedServer } from './delayed-server.js';

const run = promisify(execFile);

/** Bandwidth of each direction, and the round trip. */
export interface LinkKind {
  readonly mbps: number;
  readonly rttMs: number;
}

const namePrefix = 'isr-bench-';
const webServerPort = 8080;

/** So many /30 there are in 198.18.0.0/15. */
const subnets = 2 ** 15;

const startUpTimeoutMs = 10_000;

/** What a queue in front of the slow part holds: some round trips, as routers' do; and at least some packets. */
const queueMs = 50;
const queueBytesMin = 64 * 1024;

/** How much may leave at once. Large packets are cut to fit; on fast links that costs processor time. */
const burstMs = 1;
const burstBytesMin = 10_000;

/**
 * A server in a network namespace of its own, reached through a pair of virtual interfaces: `tbf` shapes each direction,
 * and a process in the server's namespace (`delay.c`) holds what passes for half of the round trip. The client is this
 * host. What went over the link is what the interface counts, headers included.
 *
 * TCP's slow start is not imitated: the kernel's own round trip over the pair is short.
 */
export class Link implements AsyncDisposable {
  readonly kind: LinkKind;
  readonly address: string;
  readonly #namespace: string;
  readonly #interface: string;
  readonly #directory: string;
  #delayProgram = '';
  #webServer: DelayedServer | undefined;

  private constructor(kind: LinkKind, directory: string, address: string) {
    this.kind = kind;
    this.#directory = directory;
    this.#namespace = `${namePrefix}${process.pid}`;
    this.#interface = `ib${process.pid}c`;
    this.address = address;
  }

  /** nginx over `root` behind such a link. Its own files go to `directory`. */
  static async open(kind: LinkKind, root: string, directory: string): Promise<Link> {
    await removeStaleNamespaces();
    const link = new Link(kind, directory, await freeAddress());
    try {
      await link.#connect();
      await mkdir(directory, { recursive: true });
      link.#delayProgram = await compileDelay(directory);
      await link.#serveWeb(root);
      return link;
    } catch (error) {
      await link[Symbol.asyncDispose]();
      throw error;
    }
  }

  get url(): string {
    return `http://${this.address}`;
  }

  /**
   * Starts another server behind the link, which the caller owns: one that listens at `port` of the loopback address in its
   * own namespace, and speaks first when somebody connects. It is reached at the same port of the link's address.
   */
  async serve(program: string, parameters: readonly string[], port: number): Promise<AsyncDisposable> {
    const server = await this.#start(program, parameters, port, port);
    try {
      await this.#waitUntil(server, program, () => isGreetedBy(this.address, port));
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Bytes that have come from the server so far. */
  async receivedBytes(): Promise<number> {
    return Number(await readFile(`/sys/class/net/${this.#interface}/statistics/rx_bytes`, 'latin1'));
  }

  /** Bytes that have gone to the server so far. */
  async sentBytes(): Promise<number> {
    return Number(await readFile(`/sys/class/net/${this.#interface}/statistics/tx_bytes`, 'latin1'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#webServer?.[Symbol.asyncDispose]();
    // The pair goes with the namespace that one of them is in.
    await run('ip', ['netns', 'del', this.#namespace]).catch(() => undefined);
    await run('ip', ['link', 'del', this.#interface]).catch(() => undefined);
  }

  async #connect(): Promise<void> {
    const far = `ib${process.pid}s`;
    const near = this.#interface;
    const inside = ['netns', 'exec', this.#namespace];
    await run('ip', ['netns', 'add', this.#namespace]);
    await run('ip', ['link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', this.#namespace]);
    await run('ip', ['addr', 'add', `${neighbourOf(this.address)}/30`, 'dev', near]);
    await run('ip', [...inside, 'ip', 'addr', 'add', `${this.address}/30`, 'dev', far]);
    await run('ip', [...inside, 'ip', 'link', 'set', 'lo', 'up']);
    await run('ip', [...inside, 'ip', 'link', 'set', far, 'up']);
    await run('ip', ['link', 'set', near, 'up']);
    await run('tc', ['qdisc', 'add', 'dev', near, ...shaping(this.kind)]);
    await run('ip', [...inside, 'tc', 'qdisc', 'add', 'dev', far, ...shaping(this.kind)]);
  }

  async #serveWeb(root: string): Promise<void> {
    const configuration = join(this.#directory, 'nginx.conf');
    await writeFile(configuration, nginxConfiguration(this.#directory, root));
    const parameters = ['-e', 'stderr', '-p', this.#directory, '-c', configuration];
    this.#webServer = await this.#start('nginx', parameters, webServerPort, 80);
    await this.#waitUntil(this.#webServer, 'nginx', () => this.#answers());
  }

  #start(
    program: string,
    parameters: readonly string[],
    port: number,
    publicPort: number,
  ): Promise<DelayedServer> {
    return DelayedServer.start({
      ...{ namespace: this.#namespace, program, parameters, port, address: this.address, publicPort },
      rttMs: this.kind.rttMs,
      delayProgram: this.#delayProgram,
      logPath: this.#logPath,
    });
  }

  get #logPath(): string {
    return join(this.#directory, 'log');
  }

  async #waitUntil(server: DelayedServer, name: string, isReady: () => Promise<boolean>): Promise<void> {
    const signal = AbortSignal.timeout(startUpTimeoutMs);
    while (!(await isReady())) {
      if (!server.isRunning)
        throw new Error(`${name} ended: ${await readFile(this.#logPath, 'utf8').catch(() => '')}`);
      signal.throwIfAborted();
      await sleep(20);
    }
  }

  async #answers(): Promise<boolean> {
    return fetch(`${this.url}/`, { headers: { connection: 'close' } }).then(
      async (answer) => {
        await answer.arrayBuffer();
        return answer.status === 403 || answer.status === 404 || answer.ok;
      },
      () => false,
    );
  }
}

/** From `100/20`: megabits a second, round trip in milliseconds. */
export function parseLink(text: string): LinkKind {
  const [mbps, rttMs] = text.split('/').map(Number);
  if (mbps === undefined || rttMs === undefined || !(mbps > 0) || !(rttMs >= 0))
    throw new Error(`not a link: ${text} (megabits a second / round trip in milliseconds, as 100/20)`);
  return { mbps, rttMs };
}

/** How a link is called in tables and files. */
export function linkName({ mbps, rttMs }: LinkKind): string {
  return `${mbps >= 1000 ? `${mbps / 1000} Gb/s` : `${mbps} Mb/s`} ${rttMs} ms`;
}

/** Of a /30: the client's address. */
function neighbourOf(address: string): string {
  const parts = address.split('.').map(Number);
  return [...parts.slice(0, 3), (parts[3] ?? 0) - 1].join('.');
}

function shaping({ mbps, rttMs }: LinkKind): readonly string[] {
  const bytesPerMs = (mbps * 1e6) / 8 / 1000;
  const burstBytes = Math.round(Math.max(burstBytesMin, bytesPerMs * burstMs));
  const queueBytes = Math.round(Math.max(queueBytesMin, bytesPerMs * Math.max(queueMs, rttMs)));
  return ['root', 'tbf', 'rate', `${mbps}mbit`, 'burst', `${burstBytes}`, 'limit', `${queueBytes}`];
}

function nginxConfiguration(directory: string, root: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${join(directory, name)};`)
    .join('\n  ');
  return `daemon off;
master_process off;
pid ${join(directory, 'pid')};
error_log stderr;
events { worker_connections 512; }
http {
  access_log off;
  ${temporary}
  root ${root};
  sendfile on;
  tcp_nodelay on;
  gzip off;
  keepalive_requests 1000000;
  keepalive_timeout 1h;
  server {
    listen 127.0.0.1:${webServerPort};
    # rclone reads listings.
    location /state/ {
      autoindex on;
    }
    # Blocks of s3backer, which were compressed when they were made.
    location /s3backer/ {
      add_header Content-Encoding deflate;
      # It leaves a mark that it has mounted.
      dav_methods PUT DELETE;
    }
  }
}
`;
}

/** Whether a server that speaks first does so. */
function isGreetedBy(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, address);
    const end = (isGreeted: boolean) => (): void => {
      socket.destroy();
      resolve(isGreeted);
    };
    socket.once('data', end(true)).once('error', end(false)).once('close', end(false));
  });
}

/**
 * The server's address in a /30 of the block for benchmarks (RFC 2544), which nobody routes: the one that belongs to this
 * process's number, or the next that no other bench has.
 */
async function freeAddress(): Promise<string> {
  const { stdout } = await run('ip', ['-4', '-o', 'addr', 'show']);
  for (let number = process.pid; number < process.pid + subnets; number += 1) {
    const address = `198.${18 + ((number >> 14) & 1)}.${(number >> 6) & 255}.${4 * (number & 63) + 2}`;
    if (!stdout.includes(` ${neighbourOf(address)}/`)) return address;
  }
  throw new Error('all addresses for benchmarks are taken');
}

/** What a bench that was killed left behind. */
async function removeStaleNamespaces(): Promise<void> {
  const { stdout } = await run('ip', ['netns', 'list']);
  for (const name of stdout.split('\n').map((line) => line.split(' ')[0] ?? '')) {
    if (!name.startsWith(namePrefix)) continue;
    if (!isProcessAlive(Number(name.slice(namePrefix.length)))) await run('ip', ['netns', 'del', name]);
  }
}
