import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface FakeRequest {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly id: number;
}

const greeting =
  '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": ["oob"]}}\r\n';

/** The monitor of a QEMU that is not there: what it answers is up to the test. */
export class FakeQemu implements AsyncDisposable {
  readonly directory: string;
  readonly requests: FakeRequest[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(directory: string, server: Server) {
    this.directory = directory;
    this.#server = server;
  }

  /** `answer` gets each request but the negotiation. A socket's path must be short, so it lies in the temporary directory. */
  static async listen(
    answer: (request: FakeRequest, socket: Socket) => void,
    options: { readonly greeting?: string } = {},
  ): Promise<FakeQemu> {
    const directory = await mkdtemp(join(tmpdir(), 'isr-qmp-'));
    const server = createServer((socket) => {
      qemu.#sockets.add(socket);
      socket.on('error', () => undefined);
      socket.write(options.greeting ?? greeting);
      let text = '';
      socket.setEncoding('utf8').on('data', (received: string) => {
        const lines = (text + received).split('\n');
        text = lines.pop() ?? '';
        for (const line of lines) {
          const request = JSON.parse(line) as FakeRequest;
          qemu.requests.push(request);
          if (request.execute === 'qmp_capabilities') reply(socket, request, {});
          else answer(request, socket);
        }
      });
    });
    const qemu = new FakeQemu(directory, server);
    await new Promise<void>((resolve) => server.listen(qemu.socketPath, resolve));
    return qemu;
  }

  get socketPath(): string {
    return join(this.directory, 'qmp.sock');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.directory, { recursive: true, force: true });
  }
}

export function reply(socket: Socket, request: FakeRequest, value: unknown): void {
  socket.write(`${JSON.stringify({ id: request.id, return: value })}\r\n`);
}
