/**
 * The engine for storages that only sign upload URLs: ask our server for one, then send the file there in one request.
 *
 * Nothing can be resumed; a new attempt sends the whole file again, to the same URL unless that was refused.
 */

import { readCloudError } from "./cloud-errors.ts";
import { type Engine, type EngineCallbacks, type EngineOptions, type Phase, parseErrorBody, parseRetryAfter } from "./engine.ts";
import { SilenceWatch } from "./patience.ts";

interface Target {
  key: string;
  uploadUrl: {
    url: string;
    method?: string;
    headers?: Record<string, string>;
    fields?: Record<string, string>;
    fileFieldName?: string;
  };
}

export class SignedEngine implements Engine {
  callbacks!: EngineCallbacks;
  readonly url = null;
  readonly #options: EngineOptions;
  #target: Target | null = null;
  readonly #watch: SilenceWatch;
  #request: XMLHttpRequest | null = null;
  #phase: Phase = "create";
  #run = 0;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#watch = new SilenceWatch(options.patience, () => {
      this.abort();
      this.#fail(this.#phase, 0, null, null, true);
    });
  }

  start(): void {
    this.abort();
    void this.#attempt(++this.#run);
  }

  abort(): void {
    this.#run += 1;
    this.#watch.end();
    this.#request?.abort();
    this.#request = null;
  }

  async terminate(): Promise<void> {
    this.abort(); // a signed URL cannot delete; the server's expiry cleans up
  }

  async #attempt(run: number): Promise<void> {
    const { file, endpoint, fieldId, instanceId } = this.#options;
    if (!this.#target) {
      const question = { fieldId, filename: file.name, instanceId: instanceId || undefined, size: file.size, contentType: file.type };
      const answer = await this.#send(run, "create", "POST", endpoint, { "Content-Type": "application/json" }, JSON.stringify(question));
      if (!answer) return;
      try {
        this.#target = JSON.parse(answer) as Target;
      } catch (cause) {
        return this.#fail("create", 200, null, cause);
      }
    }
    const { key, uploadUrl } = this.#target;
    const fields = Object.entries(uploadUrl.fields ?? {});
    const method = uploadUrl.method ?? (fields.length ? "POST" : "PUT");
    let body: FormData | File = file;
    if (method === "POST") {
      body = new FormData();
      for (const [name, value] of fields) body.append(name, value);
      body.append(uploadUrl.fileFieldName ?? "file", file); // S3 ignores fields after the file
    }
    if ((await this.#send(run, "send", method, uploadUrl.url, uploadUrl.headers ?? {}, body)) !== null) {
      this.callbacks.done(key);
    }
    return;
  }

  /** The answer's text, or `null` when it failed (already reported) or was aborted. */
  async #send(
    run: number,
    phase: Phase,
    method: string,
    url: string,
    headers: Record<string, string>,
    body: FormData | File | string,
  ): Promise<string | null> {
    let own: Record<string, string>;
    try {
      own = await this.#options.headers(url);
    } catch (cause) {
      if (run === this.#run) this.#fail(phase, 0, null, cause);
      return null;
    }
    if (run !== this.#run) return null;
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      this.#request = request;
      request.open(method, url);
      for (const [name, value] of Object.entries({ ...headers, ...own })) request.setRequestHeader(name, value);
      if (phase === "send") request.upload.onprogress = (event) => this.#progress(event);
      request.onloadend = () => {
        if (request === this.#request) this.#watch.end();
      };
      request.onload = () => {
        if (request.status >= 200 && request.status < 300) return resolve(request.responseText);
        this.#fail(phase, request.status, request, null);
        return resolve(null);
      };
      request.onerror = (cause) => {
        this.#fail(phase, 0, null, cause);
        resolve(null);
      };
      request.onabort = () => resolve(null);
      this.#phase = phase;
      this.#watch.begin();
      request.send(body);
    });
  }

  #progress(event: ProgressEvent): void {
    if (!event.total) return;
    this.#watch.progress(event.loaded, event.total);
    this.callbacks.progress((event.loaded / event.total) * this.#options.file.size);
  }

  #fail(phase: Phase, answered: number, request: XMLHttpRequest | null, cause: unknown, silent = false): void {
    const body = request?.responseText ?? "";
    const told = parseErrorBody(body);
    const { status, code } = phase === "send" ? readCloudError(answered, body) : { status: answered, code: "" };
    if (phase === "send" && [401, 403, 404, 410].includes(status)) this.#target = null; // perhaps expired: ask again
    this.callbacks.failed({
      phase,
      status,
      silent,
      foreign: false,
      retryAfter: parseRetryAfter(request?.getResponseHeader("Retry-After"), Date.now()),
      text: told.text,
      code: told.code || code,
      cause,
    });
  }
}
