/** What a screen reader hears: every event once, progress rarely. */

const STEP = 0.25;
const INTERVAL = 10_000;

/** When to speak progress: every 25 % or 10 s, whichever is later. Shares between 0 and 1, times in milliseconds. */
export class ProgressGate {
  #share = 0;
  #at = 0;

  start(share: number, now: number): void {
    this.#share = share;
    this.#at = now;
  }

  isDue(share: number, now: number): boolean {
    if (share - this.#share < STEP || now - this.#at < INTERVAL) return false;
    this.start(share, now);
    return true;
  }
}

/** Writes into the live region. */
export class Announcer {
  readonly gate = new ProgressGate();
  readonly #region: HTMLElement | null;

  constructor(region: HTMLElement | null) {
    this.#region = region;
  }

  say(text: string): void {
    if (this.#region && this.#region.textContent !== text) this.#region.textContent = text;
  }
}
