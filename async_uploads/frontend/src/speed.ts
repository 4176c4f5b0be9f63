/** How fast an upload goes: the mean of the last five seconds, nothing in the first one. Times in milliseconds. */

const WINDOW = 5000;
const SILENCE = 1000;

export class SpeedMeter {
  #samples: { at: number; loaded: number }[] = [];
  #startedAt = 0;

  /** Forgets everything; called when the upload starts or goes on. */
  reset(): void {
    this.#samples = [];
  }

  /** Notes that `loaded` bytes of the file were sent at time `at`. */
  add(loaded: number, at: number): void {
    const last = this.#samples.at(-1);
    if (last && loaded < last.loaded) this.reset(); // went back to the server's offset
    if (!this.#samples.length) this.#startedAt = at;
    this.#samples.push({ at, loaded });
    while (this.#samples.length > 2 && at - (this.#samples[0]?.at ?? at) > WINDOW) this.#samples.shift();
  }

  /** Bytes per second, or `null` while nothing sensible can be said. */
  rate(now: number): number | null {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    if (!first || !last || now - this.#startedAt < SILENCE) return null;
    const sent = last.loaded - first.loaded;
    return sent > 0 ? (sent * 1000) / (now - first.at) : null;
  }

  /** Seconds until `total` is reached, or `null`. */
  secondsLeft(total: number, now: number): number | null {
    const rate = this.rate(now);
    const loaded = this.#samples.at(-1)?.loaded ?? 0;
    return rate === null ? null : (total - loaded) / rate;
  }
}
