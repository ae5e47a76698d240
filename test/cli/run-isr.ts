import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';

const entryPoint = fileURLToPath(new URL('../../../bin/isr', import.meta.url));

export interface IsrRun {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface TestHost {
  readonly home: string;
  readonly repo: string;
}

/** Runs the real command as a process of its own; nothing of this process's environment reaches it. */
export async function runIsr(
  host: TestHost,
  parameters: readonly string[],
  options: { readonly environment?: NodeJS.ProcessEnv; readonly input?: string } = {},
): Promise<IsrRun> {
  const child = spawn(process.execPath, [entryPoint, ...parameters], {
    env: {
      PATH: process.env['PATH'],
      ISR_HOME: host.home,
      ISR_REPO: host.repo,
      XDG_CONFIG_HOME: host.home,
      ...options.environment,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => undefined).end(options.input ?? '');
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject).once('close', resolve);
  });
  const [stdout, stderr, exitCode] = await Promise.all([text(child.stdout), text(child.stderr), exited]);
  return { exitCode, stdout, stderr };
}
