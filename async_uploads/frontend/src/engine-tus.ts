/** The tus engine: tus-js-client makes the requests of one attempt, we read what the answers say. */

import { type DetailedError, type HttpRequest, type HttpResponse, Upload } from "tus-js-client";
import { type Engine, type EngineCallbacks, type EngineOptions, type Phase, parseErrorBody, parseRetryAfter } from "./engine.ts";
import { deleteUpload } from "./http.ts";
import { SilenceWatch } from "./patience.ts";

const PHASES: Record<string, Phase> = { POST: "create", HEAD: "resume", PATCH: "send" };

let hintGiven = false;

export class TusEngine implements Engine {
  callbacks!: EngineCallbacks;
  url: string | null;
  readonly #options: EngineOptions;
  readonly #watch: SilenceWatch;
  #upload: Upload | null = null;
  #phase: Phase = "create";
  #key = "";

  constructor(options: EngineOptions) {
    this.#options = options;
    this.url = options.url;
    this.#watch = new SilenceWatch(options.patience, () => {
      this.abort();
      this.#report(this.#phase, null, true, null);
    });
  }

  start(): void {
    this.abort();
    const { file, endpoint, fieldId, instanceId, chunkSize, headers } = this.#options;
    let sentAt = 0;
    let sentFrom = 0;
    const metadata: Record<string, string> = { filename: file.name, filetype: file.type, field_id: fieldId, instance_id: instanceId };
    for (const name in metadata) if (!metadata[name]) delete metadata[name];

    const upload: Upload = new Upload(file, {
      // Without an endpoint it cannot silently begin again when the HEAD of a known upload fails.
      endpoint: this.url ? null : endpoint,
      uploadUrl: this.url,
      metadata,
      chunkSize: chunkSize(),
      retryDelays: null,
      storeFingerprintForResuming: false,
      fingerprint: () => Promise.resolve(""),
      onBeforeRequest: async (request) => {
        for (const [name, value] of Object.entries(await headers(request.getURL()))) request.setHeader(name, value);
        if (upload !== this.#upload) return new Promise<void>(() => undefined); // aborted meanwhile: never sent
        sentAt = performance.now();
        sentFrom = Number(request.getHeader("Upload-Offset") ?? 0);
        this.#phase = phaseOf(request);
        this.#watch.begin();
      },
      onAfterResponse: (request, response) => {
        if (upload !== this.#upload) return;
        this.#watch.end();
        const sent = request.getMethod() === "PATCH" && response.getStatus() < 300;
        this.#read(response, sent ? sentFrom : null, performance.now() - sentAt);
        upload.options.chunkSize = chunkSize();
      },
      onUploadUrlAvailable: () => {
        if (upload !== this.#upload || !upload.url) return;
        const created = this.url === null;
        this.url = upload.url;
        if (created) this.callbacks.created(upload.url);
      },
      onProgress: (loaded) => {
        if (upload !== this.#upload) return;
        this.#watch.progress(loaded, file.size);
        this.callbacks.progress(loaded);
      },
      onSuccess: () => {
        if (upload !== this.#upload) return;
        this.#upload = null;
        this.callbacks.done(this.#key || lastSegment(this.url ?? ""));
      },
      onError: (error) => {
        if (upload !== this.#upload) return;
        this.#upload = null;
        this.#watch.end();
        const { originalRequest, originalResponse } = error as DetailedError;
        this.#report(phaseOf(originalRequest), originalResponse, false, error);
      },
    });
    this.#upload = upload;
    upload.start();
  }

  abort(): void {
    const upload = this.#upload;
    this.#upload = null;
    this.#watch.end();
    if (upload) void upload.abort();
  }

  async terminate(): Promise<void> {
    this.abort();
    if (this.url) await deleteUpload(this.url, this.#options.headers);
  }

  #read(response: HttpResponse, sentFrom: number | null, milliseconds: number): void {
    const header = (name: string): string => response.getHeader(name) ?? "";
    this.#key = header("Async-Upload-Key") || this.#key;
    const expires = Date.parse(header("Upload-Expires"));
    if (expires) this.callbacks.expires(expires);
    const offset = Number.parseInt(header("Upload-Offset"), 10);
    if (response.getStatus() >= 300 || Number.isNaN(offset)) return;
    if (sentFrom !== null) this.callbacks.accepted(offset, offset - sentFrom, milliseconds);
    else if (this.url) this.callbacks.located(offset);
  }

  #report(phase: Phase, response: HttpResponse | null, silent: boolean, cause: unknown): void {
    const status = response?.getStatus() ?? 0;
    const body = parseErrorBody(response?.getBody() ?? "");
    const foreign = !response?.getHeader("Tus-Resumable") && !body.code;
    if (phase === "create" && !status) hintAtCors(this.#options.endpoint);
    this.callbacks.failed({
      phase,
      status,
      silent,
      foreign,
      retryAfter: parseRetryAfter(response?.getHeader("Retry-After"), Date.now()),
      ...body,
      cause,
    });
  }
}

function phaseOf(request: HttpRequest | null): Phase {
  return PHASES[request?.getMethod() ?? ""] ?? "create";
}

/** The upload id of a tus URL, which the server takes as a key (the rule for foreign servers). */
export function lastSegment(url: string): string {
  return url.split(/[?#]/)[0]?.replace(/\/+$/, "").split("/").pop() ?? "";
}

/** A refused cross-origin request looks like a lost network; say once, to the developer, what it may be. */
function hintAtCors(endpoint: string): void {
  if (hintGiven || !navigator.onLine || new URL(endpoint, document.baseURI).origin === location.origin) return;
  hintGiven = true;
  console.warn(
    `async-upload: ${endpoint} is another origin and could not be reached. If it runs, check its CORS settings: ` +
      "CORS_ALLOW_HEADERS needs tus-resumable, upload-length, upload-metadata, upload-offset; CORS_EXPOSE_HEADERS needs " +
      "Location, Upload-Offset, Upload-Length, Upload-Expires, Tus-Resumable, Retry-After, Async-Upload-Key.",
  );
}
