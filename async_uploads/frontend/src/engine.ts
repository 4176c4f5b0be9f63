/**
 * What an upload engine is: the part that moves bytes, and nothing else.
 *
 * An engine makes one attempt at a time and never retries by itself; when to try again, what to tell the user and what
 * to remember is decided in `upload.ts`. An engine is used for one file and, once it has one, for one upload URL.
 */

/** Which request went wrong: making the upload, asking for its offset, or sending bytes. */
export type Phase = "create" | "resume" | "send";

export interface Failure {
  phase: Phase;
  /** HTTP status; 0 when no answer came. */
  status: number;
  /** Given up for its silence: no progress and no answer. */
  silent: boolean;
  /** Whether the answer came from something in front of the upload server, as far as can be seen. */
  foreign: boolean;
  /** Seconds of `Retry-After`, 0 without one. */
  retryAfter: number;
  /** The server's own words for the user, or "". */
  text: string;
  /** The server's error code, or "". */
  code: string;
  cause: unknown;
}

export interface EngineCallbacks {
  /** The upload was made, and lives under `url`. */
  created(url: string): void;
  /** The server was asked and has `offset` bytes of the upload, whoever brought them. */
  located(offset: number): void;
  /** `loaded` bytes of the file were handed to the network. */
  progress(loaded: number): void;
  /** The server has `offset` bytes; our last request brought `bytes` of them in `milliseconds`. */
  accepted(offset: number, bytes: number, milliseconds: number): void;
  /** When the server will throw the upload away, in milliseconds since 1970. */
  expires(at: number): void;
  done(key: string): void;
  failed(failure: Failure): void;
}

export interface Engine {
  /** Begins, or goes on from the offset the server reports. After `abort` it may be called again. */
  start(): void;
  /** Stops; the server keeps what arrived. No callback comes after it. */
  abort(): void;
  /** Stops and asks the server to throw the upload away. Never rejects. */
  terminate(): Promise<void>;
  /** Where the upload lives, as soon as that is known. */
  readonly url: string | null;
  callbacks: EngineCallbacks;
}

export interface EngineOptions {
  file: File;
  endpoint: string;
  fieldId: string;
  instanceId: string;
  /** Where to go on, or `null` for a new upload. */
  url: string | null;
  /** Asked before every chunk. */
  chunkSize(): number;
  /** Milliseconds that a request may be silent; asked again with each progress. */
  patience(): number;
  /** The headers of the page for a request to `url` (CSRF token, authorization). */
  headers(url: string): Promise<Record<string, string>>;
}

/** The user's text and the code in an error body: `{"error", "code"}` or the `{"fieldId": ["…"]}` of the views. */
export function parseErrorBody(body: string): { text: string; code: string } {
  try {
    const parsed = JSON.parse(body) as Record<string, unknown>;
    const listed = Object.values(parsed).find(Array.isArray) as unknown[] | undefined;
    const text = parsed.error ?? parsed.detail ?? listed?.[0];
    return {
      text: typeof text === "string" ? text : "",
      code: typeof parsed.code === "string" ? parsed.code : "",
    };
  } catch {
    return { text: "", code: "" };
  }
}

/** Seconds of a `Retry-After` header (a number or a date), 0 when absent or unreadable; at most an hour. */
export function parseRetryAfter(value: string | null | undefined, now: number): number {
  if (!value) return 0;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - now) / 1000;
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), 3600) : 0;
}
