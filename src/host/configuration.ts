import { join } from 'node:path';
import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { limits, parseByteSize } from '../base/index.js';
import { readFileIfPresent } from './atomic-file.js';
import { InvalidConfiguration } from './errors.js';
import type { Configuration } from './types.js';

const byteSize = v.pipe(
  v.union([v.number(), v.string()], 'must be a size such as "20G"'),
  v.transform((value) => (typeof value === 'number' ? value : parseByteSize(value))),
  v.number('must be a size such as "20G"'),
  v.safeInteger('must be a whole number of bytes'),
  v.minValue(0, 'must not be negative'),
);

const text = v.pipe(v.string('must be a text'), v.nonEmpty('must not be empty'));

const megabits = v.pipe(
  v.number('must be a number of megabits a second'),
  v.gtValue(0, 'must be more than 0'),
);

const fileSchema = v.strictObject({
  /** Only in the user's file: it says where the home is. */
  home: v.optional(text),
  repository: v.optional(text),
  engine: v.optional(text),
  local_cache: v.optional(byteSize),
  memory_cache: v.optional(byteSize),
  rewrite_percent: v.optional(
    v.pipe(
      v.number('must be a number'),
      v.minValue(0, 'must be at least 0'),
      v.maxValue(100, 'must be at most 100'),
    ),
  ),
  tiers: v.optional(v.array(text, 'must be a list of directories and URLs')),
  bandwidth_mbps: v.optional(megabits),
  background_mbps: v.optional(megabits),
  trickle: v.optional(v.boolean('must be true or false')),
  trickle_mbps: v.optional(megabits),
  fill: v.optional(v.boolean('must be true or false')),
  fill_mbps: v.optional(megabits),
  requests_in_flight: v.optional(
    v.pipe(
      v.number('must be a number'),
      v.integer('must be a whole number'),
      v.minValue(2, 'must be at least 2'),
      v.maxValue(256, 'must be at most 256'),
    ),
  ),
  between_demands: v.optional(v.boolean('must be true or false')),
  codec_threads: v.optional(
    v.pipe(
      v.number('must be a number'),
      v.integer('must be a whole number'),
      v.minValue(1, 'must be at least 1'),
      v.maxValue(64, 'must be at most 64'),
    ),
  ),
});

/** What one configuration file says; nothing is filled in. */
export type ConfigurationFile = v.InferOutput<typeof fileSchema>;

/** Reads a configuration file; an absent one says nothing. `InvalidConfiguration` names the file and the key. */
export async function readConfigurationFile(path: string): Promise<ConfigurationFile> {
  const content = await readFileIfPresent(path);
  return content === undefined ? {} : decodeConfiguration(path, content);
}

/** What the content of a configuration file says. `InvalidConfiguration` names the file and the key. */
export function decodeConfiguration(path: string, content: string): ConfigurationFile {
  const result = v.safeParse(fileSchema, parseToml(path, content));
  if (result.success) return result.output;
  const [issue] = result.issues;
  const key = v.getDotPath(issue) ?? '';
  if (issue.type === 'strict_object') throw new InvalidConfiguration(path, `has an unknown key: ${key}`);
  throw new InvalidConfiguration(path, `has a bad value for ${key}: it ${issue.message}`);
}

/** Later files win over earlier ones; what none says gets its default. */
export function mergeConfiguration(files: readonly ConfigurationFile[]): Configuration {
  const said: ConfigurationFile = Object.assign({}, ...files) as ConfigurationFile;
  return {
    repository: said.repository,
    engine: said.engine,
    localCacheBytes: said.local_cache ?? limits.localCacheBytes,
    tiers: said.tiers ?? [],
    bytesPerSecond: bytesPerSecond(said.bandwidth_mbps),
    backgroundBytesPerSecond: bytesPerSecond(said.background_mbps),
    requestsInFlight: said.requests_in_flight,
    betweenDemands: said.between_demands ?? true,
    trickle: said.trickle ?? false,
    trickleBytesPerSecond: bytesPerSecond(said.trickle_mbps),
    fill: said.fill ?? false,
    fillBytesPerSecond: bytesPerSecond(said.fill_mbps),
    memoryCacheBytes: said.memory_cache ?? limits.memoryCacheBytes,
    rewritePercent: said.rewrite_percent ?? 100 * limits.layoutRewriteFraction,
    codecThreads: said.codec_threads ?? limits.codecThreads,
  };
}

function bytesPerSecond(megabitsPerSecond: number | undefined): number | undefined {
  return megabitsPerSecond === undefined ? undefined : (megabitsPerSecond * 1e6) / 8;
}

/** The user's own file, which can also say where the home is. */
export function userConfigurationPath(environment: NodeJS.ProcessEnv, userHome: string): string {
  return join(environment['XDG_CONFIG_HOME'] ?? join(userHome, '.config'), 'isr', 'config.toml');
}

function parseToml(path: string, content: string): unknown {
  try {
    return parse(content);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new InvalidConfiguration(path, `is not valid TOML (line ${cause.line}, column ${cause.column})`, {
      cause,
    });
  }
}
