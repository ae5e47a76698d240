import { InvalidInput } from '../../base/index.js';
import { perfectConditions, type LabConditions } from '../lab-store.js';

interface Parameter {
  readonly meaning: string;
  readonly accepts: (value: number) => boolean;
}

const positive: Parameter = { meaning: 'a number above 0', accepts: (value) => value > 0 };
const duration: Parameter = { meaning: 'milliseconds, 0 or more', accepts: (value) => value >= 0 };
const rate: Parameter = { meaning: 'a rate between 0 and 1', accepts: (value) => value >= 0 && value <= 1 };
const integer: Parameter = { meaning: 'a whole number', accepts: (value) => Number.isSafeInteger(value) };

/** The parameters of a `lab+` URL, all optional. */
const parameters = {
  mbps: positive,
  rttMs: duration,
  jitterMs: duration,
  errorRate: rate,
  corruptRate: rate,
  truncateRate: rate,
  seed: integer,
} as const;

type ParameterName = keyof typeof parameters;

/** @throws InvalidInput which names the parameter and what it accepts */
export function parseLabParameters(query: string): {
  readonly conditions: LabConditions;
  readonly seed: number;
} {
  const values: Partial<Record<ParameterName, number>> = {};
  for (const [name, text] of new URLSearchParams(query)) {
    if (!isParameterName(name))
      throw new InvalidInput(`A lab+ store has no parameter ${JSON.stringify(name)}.`, {
        remedy: `Parameters are: ${Object.keys(parameters).join(', ')}.`,
      });
    if (values[name] !== undefined) throw new InvalidInput(`The parameter ${name} is given twice.`);
    values[name] = parseNumber(name, text);
  }
  return {
    conditions: {
      megabitsPerSecond: values.mbps ?? perfectConditions.megabitsPerSecond,
      roundTripMs: values.rttMs ?? perfectConditions.roundTripMs,
      jitterMs: values.jitterMs ?? perfectConditions.jitterMs,
      errorRate: values.errorRate ?? perfectConditions.errorRate,
      corruptRate: values.corruptRate ?? perfectConditions.corruptRate,
      truncateRate: values.truncateRate ?? perfectConditions.truncateRate,
    },
    seed: values.seed ?? 1,
  };
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
