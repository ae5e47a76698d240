import { InvalidInput } from '../../base/index.js';

/** Where in S3 a store's objects are. */
export interface S3Location {
  readonly bucket: string;
  /** Empty, or path segments that end with `/`. */
  readonly prefix: string;
}

const bucketPattern = /^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$/;
/** What a URL shows as it is, so that nothing need be escaped anywhere. */
const segmentPattern = /^(?!\.{1,2}$)[A-Za-z0-9._~-]+$/;
const prefixCharactersMax = 500;

/** Parses `s3://bucket` or `s3://bucket/prefix`. Messages repeat nothing that might be a credential. */
export function parseS3Url(url: string): S3Location {
  const rest = url.replace(/^s3:\/\//i, '');
  if (rest.includes('@'))
    throw invalid(
      'An s3: URL holds no credentials.',
      'Keep them where the AWS command line looks for them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws.',
    );
  if (/[?#]/.test(rest))
    throw invalid(
      'An s3: URL has no parameters.',
      'Endpoint and region come from AWS_ENDPOINT_URL_S3 and AWS_REGION, or a profile in ~/.aws/config.',
    );
  const [bucket = '', ...segments] = rest.split('/');
  if (!bucketPattern.test(bucket)) throw invalid('The s3: URL names no valid bucket.');
  if (segments.at(-1) === '') segments.pop();
  const prefix = segments.map((segment) => `${segment}/`).join('');
  if (!segments.every((segment) => segmentPattern.test(segment)) || prefix.length > prefixCharactersMax)
    throw invalid(
      `The prefix of an s3: URL consists of letters, digits and - . _ ~ between single slashes, at most ${prefixCharactersMax} characters.`,
    );
  return { bucket, prefix };
}

function invalid(message: string, remedy = 'Write s3://bucket or s3://bucket/prefix.'): InvalidInput {
  return new InvalidInput(message, { remedy });
}
