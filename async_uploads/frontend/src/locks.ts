/** A Web Lock per record, so that two tabs do not take one upload from each other for ever. */

/**
 * A function that gives the lock back, or `null` when another tab has it.
 *
 * Waits a moment, as a page that is just going away gives its locks back a little late. Where the browser has no
 * locks (plain http), everybody gets one.
 */
export function acquireLock(name: string, milliseconds = 300): Promise<(() => void) | null> {
  const locks = globalThis.navigator?.locks;
  if (!locks) return Promise.resolve(() => undefined);
  return new Promise((resolve) => {
    locks
      .request(name, { signal: AbortSignal.timeout(milliseconds) }, () => new Promise<void>((release) => resolve(release)))
      .catch(() => resolve(null));
  });
}
