import { fileURLToPath } from 'node:url';

/** Has this process start isr's programs from the bundles that users start them from, which `make build` has made. */
export function useBundledPrograms(): void {
  const directory = fileURLToPath(new URL('../../programs', import.meta.url));
  (globalThis as { isrPrograms?: string }).isrPrograms = directory;
}
