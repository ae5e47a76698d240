/**
 * The daemon's program: serves one mount, and ends with it. Started by `mountVm`, with a start-up channel, or by the
 * supervisor of a mount whose worker died.
 */
import debug from 'debug';
import { openHostHome } from '../host/index.js';
import { toWire } from './errors.js';
import type { ReadyMessage, StartMessage } from './launch.js';
import { protectWorker } from './protection.js';
import { serveMount } from './serve.js';
import { Supervision } from './supervision.js';
import { inheritedFd, type GoOnMessage } from './supervisor-protocol.js';

// libfuse reads DEBUG itself and would trace every request; ours goes through the debug package only.
const namespaces = process.env['ISR_DEBUG'] ?? process.env['DEBUG'] ?? '';
debug.enable(namespaces);
process.env['ISR_DEBUG'] = namespaces;
delete process.env['DEBUG'];
// A log that cannot be written, as on a full disk, must end nobody.
process.stderr.on('error', () => undefined);
process.title = `isr: ${process.argv[2] ?? ''}`;

protectWorker();

process.once('message', (message) => {
  const first = message as StartMessage | GoOnMessage;
  void ('goOn' in first ? goOn(first) : run(first));
});

async function run(start: StartMessage): Promise<void> {
  try {
    const home = await openHostHome(start.homePath);
    await serveMount({ ...start, home }, (mounted) => {
      answer({ ready: { mountPath: mounted.mountPath, withoutStore: mounted.withoutStore } });
    });
    process.exit(0);
  } catch (error) {
    console.error(error);
    answer({ error: toWire(error) }, () => process.exit(1));
  }
}

async function goOn({
  start,
  goOn: { connection, restarts, supervisor, ...rest },
}: GoOnMessage): Promise<void> {
  const supervision = Supervision.continue(restarts, supervisor);
  process.on('uncaughtExceptionMonitor', (error) => supervision.failing(error));
  const descriptors = { fd: inheritedFd.connection, lockFd: inheritedFd.lock };
  try {
    const home = await openHostHome(start.homePath);
    const takeOver = { ...rest, ...connection, ...descriptors, supervision };
    await serveMount({ ...start, home, takeOver }, () => undefined);
    process.exit(0);
  } catch (error) {
    console.error(error);
    supervision.failing(error);
    process.exit(1);
  }
}

/** The launching command may be gone already; the daemon goes on without it. */
function answer(message: ReadyMessage, sent: () => void = () => undefined): void {
  if (process.connected && process.send !== undefined) process.send(message, sent);
  else sent();
}
