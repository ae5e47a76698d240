import { readFileIfPresent, replaceFile } from './atomic-file.js';

const pattern = /^\{"repositoryId":"([0-9a-z-]+)"\}\n$/;

/** A hint, not a promise: one that is absent or damaged means that the store must be asked. */
export async function readRepositoryRecord(path: string): Promise<string | undefined> {
  const content = await readFileIfPresent(path);
  return content === undefined ? undefined : pattern.exec(content)?.[1];
}

export async function writeRepositoryRecord(path: string, repositoryId: string): Promise<void> {
  if ((await readRepositoryRecord(path)) === repositoryId) return;
  await replaceFile(path, `${JSON.stringify({ repositoryId })}\n`);
}
