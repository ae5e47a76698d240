import { realpath } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { systemErrorCode } from '../base/index.js';
import { readFileIfPresent, replaceFile } from './atomic-file.js';
import { decodeConfiguration } from './configuration.js';
import { InvalidConfiguration } from './errors.js';

/**
 * Sets one key of a configuration file and leaves everything else of it, comments included, as it is. The file is made if
 * absent; where it is a symbolic link, what that leads to is changed.
 *
 * @throws InvalidConfiguration if the file cannot be used as it is, or the key cannot be set in it
 */
export async function setConfigured(path: string, key: string, value: number | string): Promise<void> {
  const content = (await readFileIfPresent(path)) ?? '';
  const before = decodeConfiguration(path, content);
  const line = `${key} = ${JSON.stringify(value)}`;
  const changed = withLine(content, key, line);
  const expected = { ...before, ...decodeConfiguration(path, `${line}\n`) };
  if (!isDeepStrictEqual(decodeConfiguration(path, changed), expected))
    throw new InvalidConfiguration(path, `says ${key} in a way that isr cannot change`);
  await replaceFile(await behindLinks(path), changed);
}

function withLine(content: string, key: string, line: string): string {
  const present = new RegExp(`^[ \\t]*${key}[ \\t]*=[^\\n#]*`, 'm');
  const old = present.exec(content)?.[0];
  if (old !== undefined) {
    const space = /[ \t\r]*$/.exec(old)?.[0] ?? '';
    return content.replace(present, () => line + space);
  }
  return content === '' || content.endsWith('\n') ? `${content}${line}\n` : `${content}\n${line}\n`;
}

async function behindLinks(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return path;
    throw error;
  }
}
