import { Agent as HttpAgent, request as httpRequest } from 'node:http';
import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { limits } from '../../base/index.js';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  /** Whether a request that met a closed connection may be sent again. */
  readonly isRepeatable: boolean;
  readonly signal: AbortSignal | undefined;
}

/** The answer is longer than its reader can take. */
export class BodyTooLong extends Error {
  readonly lengthBytes: number;

  constructor(lengthBytes: number) {
    super(`an answer of ${lengthBytes} bytes`);
    this.lengthBytes = lengthBytes;
  }
}

/** No whole answer came. The message is the reason, as the end of a sentence. */
export class NoAnswer extends Error {
  /** Whether it will stay so until somebody acts: the server cannot prove who it is. */
  readonly isLasting: boolean;

  constructor(reason: string, isLasting: boolean, cause: unknown) {
    super(reason, { cause });
    this.isLasting = isLasting;
  }
}

/**
 * HTTP/1.1 to one origin, over a bounded number of connections that are kept. Whatever goes wrong below HTTP is
 * `NoAnswer`; once the signal has fired it may be anything.
 */
export class HttpTransport implements Disposable {
  readonly #origin: URL;
  readonly #agent: HttpAgent;
  readonly #send: typeof httpRequest;
  readonly #idleMs: number;

  /** @param idleMs How long nothing may come or go. */
  constructor(origin: URL, idleMs: number = limits.storeIdleMs) {
    this.#origin = origin;
    this.#idleMs = idleMs;
    const isTls = origin.protocol === 'https:';
    this.#agent = new (isTls ? HttpsAgent : HttpAgent)({
      keepAlive: true,
      maxSockets: limits.storeConnections,
      maxFreeSockets: limits.storeConnections,
      scheduling: 'lifo',
    });
    this.#send = isTls ? httpsRequest : httpRequest;
  }

  /** Resolves when the headers are there. Whoever has the answer must take its body, or discard it. */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    for (;;) {
      const sent = this.#begin(request);
      try {
        return new HttpAnswer(await this.#responseTo(sent, request.body ?? []), request.method);
      } catch (error) {
        // A connection can be closed by the server just when it is used again; each of those can be met only once.
        if (sent.reusedSocket && isBroken(error) && request.isRepeatable) continue;
        throw explain(error);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  #begin({ method, path, headers, signal }: HttpRequest): ClientRequest {
    return this.#send(this.#origin, {
      ...{ agent: this.#agent, method, path, headers, timeout: this.#idleMs },
      ...(signal === undefined ? {} : { signal }),
    });
  }

  #responseTo(sent: ClientRequest, body: readonly Uint8Array[]): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      // Stays on after the answer has begun: what goes wrong then is told by its body.
      sent.on('error', reject);
      sent.once('timeout', () => sent.destroy(new Silence(this.#idleMs)));
      limitConnecting(sent);
      sent.once('response', resolve);
      sendBody(sent, body).catch(reject);
    });
  }
}

function limitConnecting(sent: ClientRequest): void {
  sent.once('socket', (socket) => {
    if (!socket.connecting) return;
    const timer = setTimeout(() => sent.destroy(new Silence(limits.storeConnectMs)), limits.storeConnectMs);
    const stop = (): void => clearTimeout(timer);
    socket.once('connect', stop).once('close', stop);
    sent.once('close', stop);
  });
}

async function sendBody(sent: ClientRequest, parts: readonly Uint8Array[]): Promise<void> {
  const closed = new Promise<void>((resolve) => sent.once('close', resolve));
  for (const part of parts) {
    if (sent.destroyed) return;
    if (sent.write(part)) continue;
    await Promise.race([new Promise<void>((resolve) => sent.once('drain', resolve)), closed]);
  }
  sent.end();
}

/** An answer whose headers have come, and whose body is coming. */
export class HttpAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly #response: IncomingMessage;
  readonly #announcedBytes: number | undefined;

  constructor(response: IncomingMessage, method: HttpRequest['method']) {
    this.status = response.statusCode ?? 0;
    this.headers = response.headers;
    this.#response = response;
    // An answer to HEAD has the headers of another one.
    const announced = method === 'HEAD' ? '0' : response.headers['content-length'];
    this.#announcedBytes = announced === undefined ? undefined : Number(announced);
  }

  /**
   * The body, in memory of its own and as long as the headers say.
   * @throws BodyTooLong, NoAnswer
   */
  async whole(bytesMax: number): Promise<Uint8Array> {
    const announcedBytes = this.#announcedBytes;
    if (announcedBytes !== undefined && announcedBytes > bytesMax) {
      this.discard();
      throw new BodyTooLong(announcedBytes);
    }
    if (announcedBytes === undefined) return this.#unannounced(bytesMax);
    const body = new Uint8Array(announcedBytes);
    let at = 0;
    await this.#forEachPiece((piece) => {
      body.set(piece, at);
      at += piece.length;
    });
    return body;
  }

  /**
   * The body as it arrives.
   * @throws NoAnswer
   */
  async *pieces(): AsyncGenerator<Uint8Array, void, undefined> {
    let lengthBytes = 0;
    try {
      for await (const piece of this.#response as AsyncIterable<Uint8Array>) {
        lengthBytes += piece.length;
        yield piece;
      }
    } catch {
      throw explain(new CutOff(lengthBytes, this.#announcedBytes));
    }
  }

  /** Costs the connection, which may be cheaper than what would still come. */
  discard(): void {
    this.#response.destroy();
  }

  async #unannounced(bytesMax: number): Promise<Uint8Array> {
    const pieces: Uint8Array[] = [];
    let lengthBytes = 0;
    for await (const piece of this.pieces()) {
      pieces.push(piece);
      lengthBytes += piece.length;
      if (lengthBytes > bytesMax) throw new BodyTooLong(lengthBytes);
    }
    return Uint8Array.from(Buffer.concat(pieces));
  }

  /** A third of the cost of an iteration. Rejects where the body ends before its announced length. */
  #forEachPiece(take: (piece: Uint8Array) => void): Promise<void> {
    const response = this.#response;
    let lengthBytes = 0;
    return new Promise((resolve, reject) => {
      const fail = (): void => reject(explain(new CutOff(lengthBytes, this.#announcedBytes)));
      response.on('data', (piece: Uint8Array) => {
        lengthBytes += piece.length;
        take(piece);
      });
      response.once('end', () => (response.complete ? resolve() : fail()));
      response.once('error', fail).once('close', fail);
    });
  }
}

class Silence extends Error {
  constructor(milliseconds: number) {
    super(`nothing came for ${milliseconds / 1000} seconds`);
  }
}

class CutOff extends Error {
  constructor(lengthBytes: number, announcedBytes: number | undefined) {
    super(`its answer broke off after ${lengthBytes} of ${announcedBytes ?? 'more'} bytes`);
  }
}

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'the connection was refused',
  ECONNRESET: 'the connection broke off',
  EPIPE: 'the connection broke off',
  ENOTFOUND: 'its name is not known',
  EAI_AGAIN: 'its name cannot be looked up',
  ETIMEDOUT: 'connecting took too long',
  EHOSTUNREACH: 'there is no way to its network',
  ENETUNREACH: 'there is no way to its network',
};

/** Errors of certificates have codes of OpenSSL's, such as DEPTH_ZERO_SELF_SIGNED_CERT. */
const certificatePattern = /CERT|^UNABLE_TO_|^ERR_TLS_CERT/;

function explain(error: unknown): NoAnswer {
  const code = codeOf(error);
  if (certificatePattern.test(code))
    return new NoAnswer(`its certificate is not trusted (${code})`, true, error);
  if (code.startsWith('HPE_')) return new NoAnswer('it does not speak HTTP', false, error);
  const ownWords = error instanceof Silence || error instanceof CutOff;
  const reason = ownWords ? error.message : (reasons[code] ?? (code === '' ? 'the connection failed' : code));
  return new NoAnswer(reason, false, error);
}

function isBroken(error: unknown): boolean {
  return ['ECONNRESET', 'EPIPE'].includes(codeOf(error));
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
