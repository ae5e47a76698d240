import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { loadEndpoint, loadRegion } from './endpoint.js';
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

/** @throws InvalidInput */
export async function loadS3Configuration(location: S3Location): Promise<S3Configuration> {
  const [region, endpoint] = await Promise.all([loadRegion(), loadEndpoint()]);
  const place = endpoint === undefined ? amazonPlace(location, region) : ownPlace(location, endpoint);
  // A daemon outlives what the files say at its start.
  const credentials = defaultProvider({ ignoreCache: true });
  return { region, ...place, signer: makeSigner(region, credentials) };
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
