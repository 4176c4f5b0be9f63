/** How an upload ends: with a value, or with an error that says what can be done about it. */

import type { AsyncUploadValue } from "./value.ts";

/** Why an upload ended. `message` is the server's text, or else a message key. */
export class AsyncUploadError extends Error {
  override readonly name = "AsyncUploadError";
  constructor(
    message: string,
    readonly code: string,
    readonly status: number,
    readonly canRetry: boolean,
    override readonly cause: unknown = null,
  ) {
    super(message);
  }
}

/** A promise and the means to settle it. Nobody has to wait for it: a rejection is never "unhandled". */
export interface Outcome {
  promise: Promise<AsyncUploadValue>;
  resolve(value: AsyncUploadValue): void;
  reject(error: Error): void;
}

export function makeOutcome(): Outcome {
  let resolve!: (value: AsyncUploadValue) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<AsyncUploadValue>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => undefined); // whoever does not wait for it learns from `state`
  return { promise, resolve, reject };
}
