/** The daemon's program: started by `mountVm` with a start-up channel, serves one mount, ends with it. */
import debug from 'debug';
import { openHostHome } from '../host/index.js';
import { toWire } from './errors.js';
import type { ReadyMessage, StartMessage } from './launch.js';
import { serveMount } from './serve.js';

// libfuse reads DEBUG itself and would trace every request; ours goes through the debug package only.
debug.enable(process.env['ISR_DEBUG'] ?? process.env['DEBUG'] ?? '');
delete process.env['DEBUG'];
process.title = `isr: ${process.argv[2] ?? ''}`;

process.once('message', (message) => {
  void run(message as StartMessage);
});

async function run(start: StartMessage): Promise<void> {
  try {
    const home = await openHostHome(start.homePath);
    await serveMount({ home, repositoryUrl: start.repositoryUrl, mount: start.mount }, (mounted) => {
      answer({ ready: { mountPath: mounted.mountPath } });
    });
    process.exit(0);
  } catch (error) {
    console.error(error);
    answer({ error: toWire(error) }, () => process.exit(1));
  }
}

/** The launching command may be gone already; the daemon goes on without it. */
function answer(message: ReadyMessage, sent: () => void = () => undefined): void {
  if (process.connected && process.send !== undefined) process.send(message, sent);
  else sent();
}
