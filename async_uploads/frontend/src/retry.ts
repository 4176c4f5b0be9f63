/** What to do after a request went wrong: one pure decision, so that it can be read and tested as a table. */

import type { Failure } from "./engine.ts";

/** Seconds before the first, second, … new attempt. */
export const DELAYS: readonly number[] = [0, 1, 3, 5, 10];

/**
 * Counts the attempts since the server last took something from us.
 *
 * Only its answer starts the count again, not bytes that the network took. An offset that moved without such an answer
 * may be the work of a request that still drains, and would have us refused again at once (409): it keeps us from
 * giving up, but not from waiting.
 */
export class Attempts {
  count = 0;
  #offset = -1;

  failed(): void {
    this.count += 1;
  }

  /** The server took a request of ours and has `offset` bytes now. */
  accepted(offset: number): void {
    this.count = 0;
    this.#offset = offset;
  }

  /** The server says that it has `offset` bytes. */
  seen(offset: number): void {
    if (offset > this.#offset) this.count = Math.min(this.count, DELAYS.length - 1);
    this.#offset = offset;
  }
}

export type Decision =
  | { act: "wait"; seconds: number }
  /** Nothing to be reached: wait for the network. */
  | { act: "offline" }
  /** A proxy's body limit: smaller chunks. */
  | { act: "shrink" }
  /** The upload is gone: forget its URL and begin again. */
  | { act: "restart" }
  /** The token may have changed: read it again and repeat at once. */
  | { act: "token" }
  | { act: "fail"; canRetry: boolean };

export interface Situation {
  online: boolean;
  /** See `Attempts.count`. */
  attempt: number;
  canShrink: boolean;
  restarted: boolean;
  tokenRetried: boolean;
}

export function decide(failure: Failure, situation: Situation): Decision {
  const { status, phase } = failure;
  if (status === 0 || status === 409 || status === 423 || status === 429 || status >= 500) {
    if (status === 0 && !situation.online) return { act: "offline" };
    const delay = DELAYS[situation.attempt];
    if (delay === undefined) return { act: "fail", canRetry: true };
    return { act: "wait", seconds: Math.max(delay, failure.retryAfter) };
  }
  if (status === 413 && phase === "send" && failure.foreign && situation.canShrink) return { act: "shrink" };
  const gone = status === 404 || status === 410;
  if (phase !== "create" && (gone || (phase === "resume" && status === 403)) && !situation.restarted) {
    return { act: "restart" };
  }
  if (status === 401 || status === 403) {
    return situation.tokenRetried ? { act: "fail", canRetry: true } : { act: "token" };
  }
  return { act: "fail", canRetry: gone };
}

/** The key of the message for a failure that the server did not describe itself. */
export function messageKey(status: number): string {
  if (status === 0) return "error_network";
  if (status === 401 || status === 403) return "error_forbidden";
  if (status === 413) return "error_too_large";
  return status >= 500 ? "error_server" : "error_failed";
}
