import { StoreRefused, StoreUnreachable, type StoreFailure } from '../errors.js';

interface Refusal {
  readonly reason: string;
  readonly remedy: string;
}

/** What the words depend on. */
export interface RefusalContext {
  readonly bucket: string;
  /** Where the bucket is, if the answer said so. */
  readonly bucketRegion: string | undefined;
}

const credentialSources =
  'isr looks where the AWS command line does: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the profile (AWS_PROFILE) ' +
  'in ~/.aws, then the container and the machine.';

export const noCredentials: Refusal = {
  reason: 'no credentials were found, or they could not be read',
  remedy: `${credentialSources} \`aws sts get-caller-identity\` says what is wrong.`,
};

const wrongCredentials: Refusal = {
  reason: 'the credentials are not valid there',
  remedy: `Check them, and that AWS_ENDPOINT_URL_S3 names the store that they are for. ${credentialSources}`,
};

const expiredCredentials: Refusal = {
  reason: 'the credentials have expired',
  remedy:
    'Renew them in the profile that isr uses; mounts go on by themselves then. Those of the environment cannot be ' +
    'renewed for a mount that has them.',
};

const noPermission: Refusal = {
  reason: 'permission denied',
  remedy: 'Let these credentials get, put, list and delete objects in the bucket.',
};

const noSpace: Refusal = {
  reason: 'there is no space left, or a quota is used up',
  remedy: 'Free space there or raise the quota, then try again.',
};

const cannotBeUsed: Refusal = {
  reason: 'it does not know a request that isr needs',
  remedy: 'Use a store that implements the S3 interface, with If-None-Match: * for PUT.',
};

const refusalOfCode: ReadonlyMap<string, Refusal> = new Map([
  ['InvalidAccessKeyId', wrongCredentials],
  ['InvalidToken', wrongCredentials],
  ['AuthorizationHeaderMalformed', wrongCredentials],
  ['SignatureDoesNotMatch', wrongCredentials],
  ['ExpiredToken', expiredCredentials],
  ['TokenRefreshRequired', expiredCredentials],
  ['QuotaExceeded', noSpace],
  ['InsufficientCapacity', noSpace],
  ['XMinioStorageFull', noSpace],
  ['RequestTimeTooSkewed', { reason: "this host's clock is wrong", remedy: 'Set the clock.' }],
  ['NotImplemented', cannotBeUsed],
]);

const refusalOfStatus: ReadonlyMap<number, Refusal> = new Map([
  [401, wrongCredentials],
  [403, noPermission],
  [405, cannotBeUsed],
  [501, cannotBeUsed],
  [507, noSpace],
]);

/** Codes that mean: later. */
const passingCodes: ReadonlySet<string> = new Set([
  'SlowDown',
  'RequestTimeout',
  'OperationAborted',
  'ConditionalRequestConflict',
  'ServiceUnavailable',
  'InternalError',
]);

/** Codes after which it is worth to look for credentials again. */
const codesOfOldCredentials: ReadonlySet<string> = new Set([
  'ExpiredToken',
  'TokenRefreshRequired',
  'InvalidToken',
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
]);

export function speaksOfOldCredentials(status: number, code: string | undefined): boolean {
  return status === 401 || (code !== undefined && codesOfOldCredentials.has(code));
}

/** What an answer that is neither a success nor about one object means. */
export function explainAnswer(
  answer: { readonly status: number; readonly code: string | undefined },
  failure: StoreFailure,
  context: RefusalContext,
): StoreRefused | StoreUnreachable {
  const { status, code } = answer;
  const numbered = code === undefined ? `status ${status}` : `${status} ${code}`;
  const isPassing = status >= 500 && !refusalOfStatus.has(status);
  if (isPassing || status === 429 || (code !== undefined && passingCodes.has(code)))
    return new StoreUnreachable({ ...failure, reason: `it answers ${numbered}` });
  const { reason, remedy } = refusalOf(status, code, context);
  return new StoreRefused({ ...failure, reason: `${reason} (${numbered})`, remedy });
}

function refusalOf(
  status: number,
  code: string | undefined,
  { bucket, bucketRegion }: RefusalContext,
): Refusal {
  if (code === 'NoSuchBucket')
    return {
      reason: `there is no bucket ${bucket}`,
      remedy: `Check name and endpoint (AWS_ENDPOINT_URL_S3), or make it: \`aws s3 mb s3://${bucket}\`.`,
    };
  if (bucketRegion !== undefined && [301, 307, 400].includes(status))
    return {
      reason: `the bucket is in the region ${bucketRegion}`,
      remedy: `Set AWS_REGION=${bucketRegion}, or region in the profile.`,
    };
  const known = (code === undefined ? undefined : refusalOfCode.get(code)) ?? refusalOfStatus.get(status);
  return known ?? { reason: 'it does not accept the request', remedy: 'Check that the endpoint speaks S3.' };
}
