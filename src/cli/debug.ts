/**
 * `DEBUG=isr*` turns on tracing through the `debug` package. The variable must not stay in the environment: libfuse,
 * inside fuse-native, turns on its own trace when it finds a star there. `ISR_DEBUG` carries it to child processes.
 */
export async function takeDebugFromEnvironment(): Promise<void> {
  const namespaces = process.env['DEBUG'] ?? process.env['ISR_DEBUG'];
  if (namespaces === undefined || namespaces === '') return;
  const { default: createDebug } = await import('debug');
  createDebug.enable(namespaces);
  process.env['ISR_DEBUG'] = namespaces;
  // enable() has put it (back) there.
  delete process.env['DEBUG'];
}

/** What tracing is on for, if any of it is ours. */
export function debugNamespaces(): string | undefined {
  const namespaces = process.env['ISR_DEBUG'];
  return namespaces !== undefined && /(^|[\s,])(isr|\*)/.test(namespaces) ? namespaces : undefined;
}
