import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { loadConfig, NODE_REGION_CONFIG_FILE_OPTIONS, NODE_REGION_CONFIG_OPTIONS } from '@smithy/core/config';
import { InvalidInput } from '../../base/index.js';
import type { S3Location } from './location.js';
import { makeSigner, type S3Signer } from './signer.js';

/** What the usual AWS sources say: environment, shared files and their profiles, containers, instance metadata. */
export interface S3Configuration {
  readonly region: string;
  /** Scheme, host and port of every request. */
  readonly origin: URL;
  /** Of every request: with the bucket where the host does not name it; without a slash at its end. */
  readonly basePath: string;
  /** Whether the user named an endpoint; otherwise it is Amazon's. */
  readonly hasOwnEndpoint: boolean;
  readonly signer: S3Signer;
}

/** Amazon's first region, which other stores take for "none in particular". */
const defaultRegion = 'us-east-1';

/** @throws InvalidInput */
export async function loadS3Configuration(location: S3Location): Promise<S3Configuration> {
  const [region, endpoint] = await Promise.all([loadRegion(), loadEndpoint()]);
  const place = endpoint === undefined ? amazonPlace(location, region) : ownPlace(location, endpoint);
  // A daemon outlives what the files say at its start.
  const credentials = defaultProvider({ ignoreCache: true });
  return { region, ...place, signer: makeSigner(region, credentials) };
}

async function loadRegion(): Promise<string> {
  const fromFiles = loadConfig(
    { ...NODE_REGION_CONFIG_OPTIONS, default: '' },
    NODE_REGION_CONFIG_FILE_OPTIONS,
  );
  const region = (process.env['AWS_DEFAULT_REGION'] ?? '') || defaultRegion;
  return (await readSharedFiles(fromFiles)) || region;
}

async function loadEndpoint(): Promise<URL | undefined> {
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

type Place = Pick<S3Configuration, 'origin' | 'basePath' | 'hasOwnEndpoint'>;

function ownPlace({ bucket }: S3Location, endpoint: URL): Place {
  const basePath = `${endpoint.pathname.replace(/\/+$/, '')}/${bucket}`;
  return { origin: new URL(endpoint.origin), basePath, hasOwnEndpoint: true };
}

/** Certificates for `*.s3…` do not cover buckets with dots in their names. */
function amazonPlace({ bucket }: S3Location, region: string): Place {
  const host = `s3.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`;
  const hostNamesBucket = /^[a-z0-9-]+$/.test(bucket);
  return {
    origin: new URL(hostNamesBucket ? `https://${bucket}.${host}` : `https://${host}`),
    basePath: hostNamesBucket ? '' : `/${bucket}`,
    hasOwnEndpoint: false,
  };
}
