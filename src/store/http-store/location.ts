import { InvalidInput } from '../../base/index.js';

/** Where a repository is on a web server. */
export interface HttpLocation {
  readonly origin: URL;
  /** Begins and ends with a slash. */
  readonly basePath: string;
  /** For the header of that name; undefined where the URL has no user. */
  readonly authorization: string | undefined;
  /** The URL without user and password. */
  readonly description: string;
}

const remedy = 'Write https://host/path or https://user:password@host/path, without parameters.';

/** Messages name no part of the URL: it may hold a password. @throws InvalidInput */
export function parseHttpUrl(text: string): HttpLocation {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || !/^https?:\/\//i.test(text))
    throw new InvalidInput('The http: or https: URL of the store is malformed.', { remedy });
  if (url.search !== '' || url.hash !== '')
    throw new InvalidInput('The URL of a web server has no parameters and no fragment.', { remedy });
  const path = url.pathname.replace(/\/+$/, '');
  return {
    origin: new URL(url.origin),
    basePath: `${path}/`,
    authorization: authorizationOf(url),
    description: url.origin + path,
  };
}

function authorizationOf({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  try {
    const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
    return `Basic ${Buffer.from(credentials).toString('base64')}`;
  } catch {
    throw new InvalidInput('User or password in the URL of the store have a malformed % escape.', { remedy });
  }
}
