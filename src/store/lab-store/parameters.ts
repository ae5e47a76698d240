import { InvalidInput } from '../../base/index.js';
import { perfectConditions, type LabConditions, type PlannedOutage } from './conditions.js';

interface Parameter {
  readonly meaning: string;
  readonly accepts: (value: number) => boolean;
}

const positive: Parameter = { meaning: 'a number above 0', accepts: (value) => value > 0 };
const duration: Parameter = { meaning: 'milliseconds, 0 or more', accepts: (value) => value >= 0 };
const rate: Parameter = { meaning: 'a rate between 0 and 1', accepts: (value) => value >= 0 && value <= 1 };
const integer: Parameter = { meaning: 'a whole number', accepts: (value) => Number.isSafeInteger(value) };

/** The parameters of a `lab+` URL that are numbers, all optional, and the conditions that they set. */
const parameters = {
  mbps: { ...positive, sets: 'megabitsPerSecond' },
  rttMs: { ...duration, sets: 'roundTripMs' },
  jitterMs: { ...duration, sets: 'jitterMs' },
  errorRate: { ...rate, sets: 'errorRate' },
  refuseRate: { ...rate, sets: 'refuseRate' },
  resetRate: { ...rate, sets: 'resetRate' },
  serverErrorRate: { ...rate, sets: 'serverErrorRate' },
  slowDownRate: { ...rate, sets: 'slowDownRate' },
  forbiddenRate: { ...rate, sets: 'forbiddenRate' },
  cutRate: { ...rate, sets: 'cutRate' },
  stallRate: { ...rate, sets: 'stallRate' },
  stallMs: { ...duration, sets: 'stallMs' },
  wrongRangeRate: { ...rate, sets: 'wrongRangeRate' },
  corruptRate: { ...rate, sets: 'corruptRate' },
  truncateRate: { ...rate, sets: 'truncateRate' },
  outageEveryMs: { ...duration, sets: 'outageEveryMs' },
  outageMs: { ...positive, sets: 'outageMs' },
  seed: { ...integer, sets: undefined },
} as const satisfies Record<string, Parameter & { readonly sets: keyof LabConditions | undefined }>;

type ParameterName = keyof typeof parameters;

/** @throws InvalidInput which names the parameter and what it accepts */
export function parseLabParameters(query: string): {
  readonly conditions: LabConditions;
  readonly seed: number;
} {
  const values: Partial<Record<keyof LabConditions, number>> = {};
  let seed = 1;
  let outages: readonly PlannedOutage[] = [];
  const given = new Set<string>();
  for (const [name, text] of new URLSearchParams(query)) {
    if (given.has(name)) throw new InvalidInput(`The parameter ${name} is given twice.`);
    given.add(name);
    if (name === 'outages') {
      outages = parseOutages(text);
      continue;
    }
    if (!isParameterName(name))
      throw new InvalidInput(`A lab+ store has no parameter ${JSON.stringify(name)}.`, {
        remedy: `Parameters are: ${[...Object.keys(parameters), 'outages'].join(', ')}.`,
      });
    const value = parseNumber(name, text);
    const { sets } = parameters[name];
    if (sets === undefined) seed = value;
    else values[sets] = value;
  }
  return { conditions: { ...perfectConditions, ...values, outages }, seed };
}

function isParameterName(name: string): name is ParameterName {
  return Object.hasOwn(parameters, name);
}

function parseNumber(name: ParameterName, text: string): number {
  const { meaning, accepts } = parameters[name];
  const value = /^[0-9]+(\.[0-9]+)?$/.test(text) ? Number(text) : NaN;
  if (!accepts(value))
    throw new InvalidInput(`The parameter ${name} must be ${meaning}, not ${JSON.stringify(text)}.`);
  return value;
}

/** `10-15,60-90` */
function parseOutages(text: string): readonly PlannedOutage[] {
  return text.split(',').map((part) => {
    const match = /^(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)$/.exec(part);
    const [fromSeconds, toSeconds] = [Number(match?.[1]), Number(match?.[2])];
    if (match !== null && fromSeconds < toSeconds) return { fromSeconds, toSeconds };
    throw new InvalidInput(
      `The parameter outages must be seconds since the start, like 10-15,60-90, not ${JSON.stringify(text)}.`,
    );
  });
}
