import { FixedQueue, queueOptionsSymbol, type PiscinaTask, type TaskQueue } from 'piscina';

/** What waits for a codec thread, most urgent first; of equal urgency, first come, first served. */
export const codecPriorities = { demand: 0, replay: 1, background: 2 } as const;

export type CodecPriority = keyof typeof codecPriorities;

type QueuedTask = Parameters<TaskQueue['push']>[0];

/** Attaches a priority to a job; the symbol keeps it out of what is sent to the thread. */
export function withPriority<T extends object>(job: T, priority: CodecPriority): T {
  return { ...job, [queueOptionsSymbol]: { priority } };
}

/** Piscina's queue, one lane a priority. */
export class PriorityQueue implements TaskQueue {
  readonly #lanes = Object.values(codecPriorities).map(() => new FixedQueue());

  get size(): number {
    return this.#lanes.reduce((total, lane) => total + lane.size, 0);
  }

  shift(): QueuedTask | null {
    return this.#lanes.find((lane) => lane.size > 0)?.shift() ?? null;
  }

  push(task: QueuedTask): void {
    this.#laneOf(task).push(task);
  }

  unshift(task: QueuedTask): void {
    this.#laneOf(task).unshift(task);
  }

  remove(task: QueuedTask): void {
    this.#laneOf(task).remove(task);
  }

  #laneOf(task: QueuedTask): FixedQueue {
    const options = (task as PiscinaTask)[queueOptionsSymbol] as { priority: CodecPriority } | null;
    const lane = this.#lanes[codecPriorities[options?.priority ?? 'background']];
    if (lane === undefined) throw new Error('no lane for this priority');
    return lane;
  }
}
