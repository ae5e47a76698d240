/**
 * How long after an answer the next request is looked for without pause. A reader that goes on at once is back within
 * 15 to 30 us, and waking up for it takes longer than serving it, on an idle virtual core several times as long.
 */
export const spinMilliseconds = 0.05;

/**
 * How long the main thread then sleeps at the device, unless a request waits for the event loop: waking up from there needs
 * one thread instead of two. Bounded by what a delivery from the store may be late.
 */
export const lingerNanoseconds = 200_000;

/** How long requests may keep the event loop from everything else: what the store delivers, control connections. */
export const turnMilliseconds = 1;

/** So many requests, each there before the one before it was answered, call for another thread. */
export const crowdRequests = 32;

/** So many reads in a row that the main thread answered from local data make it leave the device to the serving threads. */
export const readsBeforePassing = 16;

/** The same where serving threads were found not to know the data: the change costs more than it gains. */
export const readsBeforePassingMax = 4096;
