import { open } from 'node:fs/promises';

/** Makes the names in a directory, and its own metadata, durable. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
