import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import type { Test } from 'tap';

/** Answers a request instead of the server, if it returns true. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean;

/** A small S3 in memory, without signatures, whose faults are the tests' own. Has the bucket `bucket`. */
export class FakeS3 {
  readonly objects = new Map<string, Buffer>();
  /** What was asked, as `GET /bucket/key`. */
  readonly requests: string[] = [];
  endpoint = '';
  keepsConditions = true;
  fault: Fault = () => false;

  /** Runs until the test ends; `AWS_…` variables of this process name it until then. */
  static async start(t: Test): Promise<FakeS3> {
    const fake = new FakeS3();
    const server = createServer((request, response) => void fake.#answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    fake.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    useAwsEnvironment(t, {
      AWS_ENDPOINT_URL_S3: fake.endpoint,
      AWS_ACCESS_KEY_ID: 'test-key',
      AWS_SECRET_ACCESS_KEY: 'test-secret',
    });
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
    return fake;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '', 'http://fake');
    this.requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
    const body = await buffer(request);
    if (this.fault(request, response)) return;
    const { pathname: name } = url;
    if (!name.startsWith('/bucket/')) refuse(response, 404, 'NoSuchBucket');
    else if (url.searchParams.has('delete')) this.#deleteMany(body, response);
    else if (request.method === 'PUT') this.#put(name, body, request, response);
    else if (request.method === 'DELETE') {
      this.objects.delete(name);
      response.writeHead(204).end();
    } else this.#get(name, request, response);
  }

  #put(name: string, body: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const isConditional = this.keepsConditions && request.headers['if-none-match'] === '*';
    if (isConditional && this.objects.has(name)) {
      refuse(response, 412, 'PreconditionFailed');
      return;
    }
    this.objects.set(name, body);
    response.writeHead(200, { 'content-length': 0 }).end();
  }

  #get(name: string, request: IncomingMessage, response: ServerResponse): void {
    const object = this.objects.get(name);
    if (object === undefined) {
      refuse(response, 404, 'NoSuchKey');
      return;
    }
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    if (first === undefined) {
      response.writeHead(200, { 'content-length': object.length }).end(object);
      return;
    }
    if (Number(first) >= object.length) {
      refuse(response, 416, 'InvalidRange');
      return;
    }
    const end = Math.min(object.length, Number(last) + 1);
    response.writeHead(206, {
      'content-length': end - Number(first),
      'content-range': `bytes ${first}-${end - 1}/${object.length}`,
    });
    response.end(object.subarray(Number(first), end));
  }

  #deleteMany(body: Buffer, response: ServerResponse): void {
    for (const [, name] of body.toString().matchAll(/<Key>([^<]*)<\/Key>/g))
      this.objects.delete(`/bucket/${name ?? ''}`);
    response.writeHead(200).end('<DeleteResult/>');
  }
}

/** An error as S3 says it. */
export function refuse(response: ServerResponse, status: number, code: string): void {
  const body = `<?xml version="1.0"?><Error><Code>${code}</Code><AWSAccessKeyId>test-key</AWSAccessKeyId></Error>`;
  response.writeHead(status, { 'content-length': body.length }).end(body);
}

/** Sets variables of AWS, and takes away all others, until the test ends. */
export function useAwsEnvironment(t: Test, variables: Readonly<Record<string, string>>): void {
  const before = Object.entries(process.env).filter(([name]) => name.startsWith('AWS_'));
  const clear = (): void => {
    for (const name of Object.keys(process.env))
      if (name.startsWith('AWS_')) Reflect.deleteProperty(process.env, name);
  };
  clear();
  Object.assign(process.env, {
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: '/nonexistent',
    AWS_SHARED_CREDENTIALS_FILE: '/nonexistent',
    ...variables,
  });
  t.teardown(() => {
    clear();
    Object.assign(process.env, Object.fromEntries(before));
  });
}
