/**
 * How long a request may be silent: no bytes taken by the network, no answer.
 *
 * A server that is merely slow looks like a dead connection. So the patience doubles each time it runs out and never
 * shrinks again: whoever needs a minute for every chunk is interrupted once, not for ever.
 */

export const DEFAULT_PATIENCE = 30_000;

/** With the last byte sent, the server may have to check the file or write it to disk before it answers. */
const AFTER_LAST_BYTE = 4;

export class Patience {
  /** Milliseconds. */
  limit: number;

  constructor(limit: number = DEFAULT_PATIENCE) {
    this.limit = limit > 0 ? limit : DEFAULT_PATIENCE;
  }

  ranOut(): void {
    this.limit *= 2;
  }
}

/** Watches one request at a time. */
export class SilenceWatch {
  readonly #limit: () => number;
  readonly #onsilence: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #loaded = 0;

  constructor(limit: () => number, onsilence: () => void) {
    this.#limit = limit;
    this.#onsilence = onsilence;
  }

  /** A request goes out now. */
  begin(): void {
    this.#loaded = -1;
    this.#arm(1);
  }

  /** The network took the file's first `loaded` bytes of `total`; saying so again is no progress. */
  progress(loaded: number, total: number): void {
    if (this.#timer === undefined || loaded <= this.#loaded) return;
    this.#loaded = loaded;
    this.#arm(loaded < total ? 1 : AFTER_LAST_BYTE);
  }

  /** It was answered, failed or was given up. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #arm(factor: number): void {
    this.end();
    // Browsers take a delay above 31 bits for none at all.
    this.#timer = setTimeout(this.#onsilence, Math.min(this.#limit() * factor, 2 ** 31 - 1));
  }
}
