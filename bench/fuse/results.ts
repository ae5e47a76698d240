import { median } from '../support/statistics.js';
import type { MeasureName, Sample } from './measures.js';

/** All samples of a run, asked by target and measure. */
export class Results {
  readonly samples: readonly Sample[];

  constructor(samples: readonly Sample[]) {
    this.samples = samples;
  }

  /** The rounds' median of a figure; NaN where there is none. */
  median(target: string, measure: MeasureName, figure: (sample: Sample) => number | undefined): number {
    return median(this.#of(target, measure).flatMap((sample) => figure(sample) ?? []));
  }

  /** How often one target has the other's figure, compared within each round: median, least, most. */
  ratio(
    target: string,
    other: string,
    measure: MeasureName,
    figure: (sample: Sample) => number | undefined,
  ): Ratio | undefined {
    const others = new Map(this.#of(other, measure).map((sample) => [sample.round, figure(sample)]));
    const ratios = this.#of(target, measure).flatMap((sample) => {
      const ours = figure(sample);
      const theirs = others.get(sample.round);
      return ours === undefined || theirs === undefined ? [] : [ours / theirs];
    });
    if (ratios.length === 0) return undefined;
    return { median: median(ratios), least: Math.min(...ratios), most: Math.max(...ratios) };
  }

  #of(target: string, measure: MeasureName): readonly Sample[] {
    return this.samples.filter((sample) => sample.target === target && sample.measure === measure);
  }
}

export interface Ratio {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export const perSecond = (sample: Sample): number => sample.operations / sample.seconds;
export const bytesPerSecond = (sample: Sample): number => sample.bytes / sample.seconds;
export const medianUs = (sample: Sample): number | undefined => sample.medianUs;
export const p99Us = (sample: Sample): number | undefined => sample.p99Us;
export const cpuUs = (sample: Sample): number | undefined => sample.cpuUsPerOperation;
