import { limits } from '../../base/index.js';
import { HttpTransport, type HttpAnswer, type HttpRequest } from '../http/transport.js';

/** The server sends its clients round, or to where they must not go. The message is the reason, as the end of a sentence. */
export class BadRedirect extends Error {}

const redirections: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export type ReadRequest = Pick<HttpRequest, 'path' | 'headers' | 'signal'> & {
  readonly method: 'GET' | 'HEAD';
};

/**
 * Requests to an origin and, where it says so, to others: without its credentials, and never from https: to http:.
 * @throws BadRedirect, NoAnswer
 */
export class RedirectingTransport implements Disposable {
  readonly #origin: URL;
  readonly #authorization: string | undefined;
  readonly #idleMs: number | undefined;
  readonly #transports = new Map<string, HttpTransport>();

  constructor(origin: URL, authorization: string | undefined, idleMs?: number) {
    this.#origin = origin;
    this.#authorization = authorization;
    this.#idleMs = idleMs;
  }

  /** Undefined when the name turned out to be that of a directory. */
  async send(request: ReadRequest): Promise<HttpAnswer | undefined> {
    let url = new URL(request.path, this.#origin);
    for (let hops = 0; hops <= limits.httpRedirects; hops += 1) {
      const answer = await this.#sendTo(url, request);
      const { location } = answer.headers;
      if (!redirections.has(answer.status) || location === undefined) return answer;
      await answer.whole(limits.httpMessageBytesMax).catch(() => undefined);
      const next = nextUrl(url, location);
      if (next.pathname === `${url.pathname}/`) return undefined;
      url = next;
    }
    throw new BadRedirect('it says again and again that the object is elsewhere');
  }

  [Symbol.dispose](): void {
    for (const transport of this.#transports.values()) transport[Symbol.dispose]();
  }

  #sendTo(url: URL, { method, headers, signal }: ReadRequest): Promise<HttpAnswer> {
    const isOwn = url.origin === this.#origin.origin;
    const credentials =
      isOwn && this.#authorization !== undefined ? { authorization: this.#authorization } : {};
    return this.#transportTo(url.origin).send({
      ...{ method, path: url.pathname + url.search, signal, isRepeatable: true },
      headers: { ...headers, ...credentials },
    });
  }

  #transportTo(origin: string): HttpTransport {
    const known = this.#transports.get(origin);
    if (known !== undefined) return known;
    if (this.#transports.size === limits.httpOrigins)
      throw new BadRedirect(`it sends its clients to more than ${limits.httpOrigins} servers`);
    const transport = new HttpTransport(new URL(origin), this.#idleMs);
    this.#transports.set(origin, transport);
    return transport;
  }
}

function nextUrl(url: URL, location: string): URL {
  const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
  if (next === undefined || !['http:', 'https:'].includes(next.protocol))
    throw new BadRedirect('it says that the object is elsewhere, and not where');
  if (url.protocol === 'https:' && next.protocol === 'http:')
    throw new BadRedirect('it sends its clients from https: to http:');
  return next;
}
