import { EngineUnavailable } from './errors.js';
import type { EngineName, MountEngine } from './types.js';

/**
 * The engine of a name; its code is loaded only here.
 * @throws EngineUnavailable
 */
export async function mountEngine(name: EngineName): Promise<MountEngine> {
  switch (name) {
    case 'fuse-native':
      return (await import('./fuse-native/index.js')).mountFuseNative;
    case 'kernel':
      throw new EngineUnavailable('This release has no engine "kernel".', {
        remedy: 'Use --engine fuse-native.',
      });
  }
}
