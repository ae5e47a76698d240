import { loadConfig, NODE_REGION_CONFIG_FILE_OPTIONS, NODE_REGION_CONFIG_OPTIONS } from '@smithy/core/config';
import { InvalidInput } from '../../base/index.js';

/** Amazon's first region, which other stores take for "none in particular". */
const defaultRegion = 'us-east-1';

export async function loadRegion(): Promise<string> {
  const fromFiles = loadConfig(
    { ...NODE_REGION_CONFIG_OPTIONS, default: '' },
    NODE_REGION_CONFIG_FILE_OPTIONS,
  );
  const region = (process.env['AWS_DEFAULT_REGION'] ?? '') || defaultRegion;
  return (await readSharedFiles(fromFiles)) || region;
}

/** What the user named; undefined: Amazon's. @throws InvalidInput */
export async function loadEndpoint(): Promise<URL | undefined> {
  const text = await readSharedFiles(
    loadConfig({
      environmentVariableSelector: (environment) =>
        environment['AWS_ENDPOINT_URL_S3'] || environment['AWS_ENDPOINT_URL'],
      configFileSelector: (profile, files) => {
        const services = profile['services'];
        const section = services === undefined ? undefined : files?.[`services.${services}`];
        return section?.['s3.endpoint_url'] ?? profile['endpoint_url'];
      },
      default: '',
    }),
  );
  if (text === '') return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isUsable =
    url !== undefined && /^https?:$/.test(url.protocol) && url.username === '' && url.search === '';
  if (isUsable) return url;
  throw new InvalidInput('The endpoint of S3 is not an http: or https: URL.', {
    remedy:
      'Correct AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or endpoint_url in ~/.aws/config; it holds no credentials.',
  });
}

/** The errors of the library can quote the files. */
async function readSharedFiles(read: () => Promise<string>): Promise<string> {
  try {
    return await read();
  } catch {
    throw new InvalidInput('The AWS configuration cannot be read.', {
      remedy: 'Check ~/.aws/config and AWS_PROFILE: `aws configure list` shows what they say.',
    });
  }
}
