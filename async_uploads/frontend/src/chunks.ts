/**
 * How many bytes the next PATCH carries.
 *
 * One chunk is what a cut connection can cost (some servers and proxies keep nothing of a broken request), so it must
 * stay finite. The policy aims at 5 to 10 seconds per chunk: always a power of two times the configured size, at most
 * 64 MiB; below the configured size only after a proxy refused a body (413) or after two cuts in a row.
 */

const MIB = 1024 * 1024;
export const DEFAULT_CHUNK = 8 * MIB;
export const LARGEST_CHUNK = 64 * MIB;
export const SMALLEST_CHUNK = MIB / 4;

const FAST = 5000;
const SLOW = 10000;

export class ChunkPolicy {
  readonly base: number;
  #size: number;
  #ceiling: number;
  #cuts = 0;

  constructor(base: number = DEFAULT_CHUNK) {
    this.base = Number.isFinite(base) && base > 0 ? base : DEFAULT_CHUNK;
    this.#size = this.base;
    this.#ceiling = Math.max(LARGEST_CHUNK, this.base);
  }

  /** Bytes of the next chunk. */
  get size(): number {
    return this.#size;
  }

  /** Whether a smaller chunk could still get through a proxy's limit. */
  get canShrink(): boolean {
    return this.#size > SMALLEST_CHUNK;
  }

  /** The server took `bytes` in `milliseconds`. */
  accepted(bytes: number, milliseconds: number): void {
    this.#cuts = 0;
    if (bytes < this.#size) return; // the last, short chunk says nothing about the next
    if (milliseconds < FAST && this.#size * 2 <= this.#ceiling) this.#size *= 2;
    else if (milliseconds > SLOW && this.#size > this.base) this.#size /= 2;
  }

  /** The connection broke in the middle of a chunk. */
  cut(): void {
    this.#cuts += 1;
    if (this.#cuts < 2) return;
    this.#cuts = 0;
    this.#size = Math.max(this.#size / 2, Math.min(SMALLEST_CHUNK, this.base));
  }

  /** A proxy refused a body of this size (413): a quarter of it from now on, and never more again. */
  refused(): void {
    this.#size = Math.max(Math.floor(this.#size / 4), SMALLEST_CHUNK);
    this.#ceiling = this.#size;
  }
}
