import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';

/** What goes wrong with one request on the wire. `wrong range`: the answer is about the bytes after those asked for. */
export type WireFault =
  | 'reset'
  | 'reset in the body'
  | 'truncated body'
  | 'stalled body'
  | 'silence'
  | 'wrong range'
  | 'flipped bit'
  | '500'
  | '503 SlowDown'
  | '403';

/** The fault of a request, if any; asked once a request, in the order of their arrival. */
export type DrawFault = () => WireFault | undefined;

const errorBodies: Partial<Record<WireFault, { readonly status: number; readonly code: string }>> = {
  '500': { status: 500, code: 'InternalError' },
  '503 SlowDown': { status: 503, code: 'SlowDown' },
  '403': { status: 403, code: 'AccessDenied' },
};

/**
 * A reverse proxy to any HTTP server that does to requests what networks and gateways do. Requests arrive at the server as
 * they were sent (signatures stay valid), unless their fault comes before it.
 */
export class FaultProxy implements AsyncDisposable {
  readonly #upstream: URL;
  readonly #draw: DrawFault;
  readonly #server: Server;
  #port = 0;
  #planned: WireFault[] = [];
  /** How often each fault was made. */
  readonly made = new Map<WireFault, number>();

  private constructor(upstream: string, draw: DrawFault) {
    this.#upstream = new URL(upstream);
    this.#draw = draw;
    this.#server = createServer((incoming, outgoing) => void this.#serve(incoming, outgoing));
  }

  static async start(upstream: string, draw: DrawFault = () => undefined): Promise<FaultProxy> {
    const proxy = new FaultProxy(upstream, draw);
    await proxy.accept();
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** The next requests meet these, before any are drawn again. */
  plan(...faults: readonly WireFault[]): void {
    this.#planned.push(...faults);
  }

  /** Connections are refused until `accept`. Those that there are end. */
  async refuse(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  async accept(): Promise<void> {
    this.#server.listen(this.#port, '127.0.0.1');
    await once(this.#server, 'listening');
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.refuse();
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const fault = this.#planned.shift() ?? this.#draw();
    if (fault !== undefined) this.made.set(fault, (this.made.get(fault) ?? 0) + 1);
    try {
      if (fault === 'silence') return;
      if (fault === 'reset') {
        incoming.socket.resetAndDestroy();
        return;
      }
      const error = fault === undefined ? undefined : errorBodies[fault];
      if (error !== undefined) {
        incoming.resume();
        const body = `<?xml version="1.0"?><Error><Code>${error.code}</Code></Error>`;
        outgoing.writeHead(error.status, { 'content-type': 'application/xml' }).end(body);
        return;
      }
      await this.#forward(incoming, outgoing, fault);
    } catch {
      outgoing.destroy();
    }
  }

  async #forward(
    incoming: IncomingMessage,
    outgoing: ServerResponse,
    fault: WireFault | undefined,
  ): Promise<void> {
    const forwarded = request(this.#upstream, {
      method: incoming.method,
      path: incoming.url,
      headers: incoming.headers,
    });
    incoming.pipe(forwarded);
    const [answer] = (await once(forwarded, 'response')) as [IncomingMessage];
    const body = await buffer(answer);
    const headers = { ...answer.headers };
    if (fault === 'wrong range' && headers['content-range'] !== undefined) {
      headers['content-range'] = headers['content-range'].replace(
        /(\d+)-(\d+)/,
        (_, first, last) => `${Number(first) + 1}-${Number(last) + 1}`,
      );
    }
    if (fault === 'flipped bit' && body.length > 0) body[body.length >> 1]! ^= 16;
    outgoing.writeHead(answer.statusCode ?? 502, headers);
    const half = body.subarray(0, body.length >> 1);
    switch (fault) {
      case 'truncated body':
        outgoing.write(half, () => outgoing.socket?.end());
        return;
      case 'reset in the body':
        outgoing.write(half, () => setImmediate(() => outgoing.socket?.resetAndDestroy()));
        return;
      case 'stalled body':
        outgoing.write(half);
        return;
      default:
        outgoing.end(body);
    }
  }
}
