/**
 * One file on its way to the server, without any page: attempts, pauses, the network coming and going, and the record
 * that lets a later visit go on. `AsyncUpload` is also the public, headless API.
 *
 * Rules for this file: nothing of the DOM beyond `online`/`offline` events; engines move bytes, `retry.ts` decides.
 */

import { ChunkPolicy } from "./chunks.ts";
import type { Engine, EngineOptions, Failure } from "./engine.ts";
import { SignedEngine } from "./engine-signed.ts";
import { TusEngine } from "./engine-tus.ts";
import { isReadable, readDimensions } from "./files.ts";
import { buildHeaders, type HeaderSource, type TokenSource } from "./headers.ts";
import { isReachable } from "./http.ts";
import { acquireLock } from "./locks.ts";
import { AsyncUploadError, makeOutcome, type Outcome } from "./outcome.ts";
import { Patience } from "./patience.ts";
import { buildRecordId, localRecords } from "./records.ts";
import { Attempts, decide, messageKey } from "./retry.ts";
import { SpeedMeter } from "./speed.ts";
import { isBusy, type State } from "./states.ts";
import type { AsyncUploadValue } from "./value.ts";

const PROBE_INTERVAL = 30_000;

export interface AsyncUploadOptions {
  endpoint: string;
  fieldId: string;
  instanceId?: string;
  transport?: "tus" | "signed";
  /** Bytes per PATCH. */
  chunkSize?: number;
  /** Milliseconds without progress or answer after which a request is given up and tried again (30 s); doubles each time. */
  patience?: number;
  headers?: HeaderSource;
  csrf?: Partial<TokenSource>;
  /** Where the upload belongs (see `records.ts`); without it nothing is remembered over a reload. */
  place?: string;
  /** The upload exists at the server, now or from an earlier visit (`resumedAt` above 0). Called once. */
  onstart?: (upload: AsyncUpload) => void;
  onstate?: (upload: AsyncUpload, from: State) => void;
  onprogress?: (upload: AsyncUpload) => void;
}

export class AsyncUpload {
  readonly file: File;
  readonly options: AsyncUploadOptions;
  readonly speed = new SpeedMeter();
  state: State = "idle";
  /** Bytes handed to the network. */
  loaded = 0;
  /** Where the first attempt began: above 0 when an earlier upload goes on. */
  resumedAt = 0;
  error: AsyncUploadError | null = null;
  value: AsyncUploadValue | null = null;

  #engine: Engine | null = null;
  #chunks: ChunkPolicy;
  #patience: Patience;
  #attempts = new Attempts();
  #recordId: string | null = null;
  #release: (() => void) | null = null;
  #run = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #started = false;
  #expires: number | null = null;
  #restarted = false;
  #tokenRetried = false;
  #settled: Outcome | null = null;

  constructor(file: File, options: AsyncUploadOptions) {
    this.file = file;
    this.options = options;
    this.#chunks = new ChunkPolicy(options.chunkSize);
    this.#patience = new Patience(options.patience);
  }

  /** Attempts since the server last took something from us. */
  get attempt(): number {
    return this.#attempts.count;
  }

  get url(): string | null {
    return this.#engine?.url ?? null;
  }

  /** Starts, or goes on after a pause or an error. Settles with the value, or rejects when it failed or was cancelled. */
  start(): Promise<AsyncUploadValue> {
    const settled = (this.#settled ??= makeOutcome());
    if (!isBusy(this.state) && this.state !== "done") {
      this.#attempts = new Attempts();
      this.error = null;
      this.#restarted = this.#tokenRetried = false;
      this.#listen(true);
      this.#go();
    }
    return settled.promise;
  }

  /** Stops for now; the server keeps what arrived. */
  pause(): void {
    if (!isBusy(this.state)) return;
    this.#halt();
    this.#become("paused");
  }

  /** Stops because the page goes away: as `pause`, but another tab may take over. */
  suspend(): void {
    this.pause();
    this.#end();
  }

  /** Stops for good and has the server throw the bytes away, also those of a finished upload. */
  cancel(): Promise<void> {
    this.#halt();
    this.#end();
    if (this.#recordId) localRecords.drop(this.#recordId);
    this.value = null;
    this.#settled?.reject(new AsyncUploadError("cancelled", "cancelled", 0, false));
    this.#settled = null;
    const engine = this.#engine;
    this.#engine = null;
    this.#become("idle");
    return engine?.terminate() ?? Promise.resolve();
  }

  readonly #goOffline = (): void => {
    if (!isBusy(this.state)) return;
    this.#halt();
    this.#become("offline");
    const probe = async (): Promise<void> => {
      const run = this.#run;
      const reachable = await isReachable(this.url ?? this.options.endpoint);
      if (run !== this.#run || this.state !== "offline") return;
      if (reachable) this.#go();
      else this.#timer = setTimeout(probe, PROBE_INTERVAL);
    };
    this.#timer = setTimeout(probe, PROBE_INTERVAL);
  };

  readonly #goOnline = (): void => {
    if (this.state !== "offline") return;
    this.#attempts = new Attempts();
    this.#go();
  };

  /** Makes an attempt now. */
  #go(state: State = "uploading"): void {
    this.#halt();
    const run = this.#run;
    this.speed.reset();
    this.#become(state);
    void this.#claim().then(() => {
      if (run === this.#run) this.#engine?.start();
      else if (!isBusy(this.state) && this.state !== "paused") this.#end();
    });
  }

  #halt(): void {
    this.#run += 1;
    clearTimeout(this.#timer);
    this.#engine?.abort();
  }

  /** Takes the lock and looks up the record, once; then there is an engine. */
  async #claim(): Promise<void> {
    const { place, transport } = this.options;
    if (place && transport !== "signed" && !this.#release) {
      const id = buildRecordId(place, this.file);
      this.#release = await acquireLock(id);
      // Where another tab has it, this is a separate upload that nobody remembers.
      this.#recordId = this.#release && id;
      if (!this.#release) this.#engine = null;
    }
    if (!this.#engine) {
      const record = this.#recordId ? localRecords.get(this.#recordId, Date.now()) : null;
      this.#engine = this.#build(record?.url ?? null);
    }
  }

  #build(url: string | null): Engine {
    const { endpoint, fieldId, instanceId = "", headers, csrf, transport } = this.options;
    const token: TokenSource = { cookie: "csrftoken", header: "X-CSRFToken", form: () => null, ...csrf };
    const options: EngineOptions = {
      file: this.file,
      endpoint,
      fieldId,
      instanceId,
      url,
      chunkSize: () => this.#chunks.size,
      patience: () => this.#patience.limit,
      headers: (target) => buildHeaders(target, endpoint, token, headers),
    };
    const engine = transport === "signed" ? new SignedEngine(options) : new TusEngine(options);
    engine.callbacks = {
      created: () => this.#accepted(0),
      located: (offset) => {
        this.#attempts.seen(offset);
        this.#located(offset);
      },
      progress: (loaded) => this.#progress(loaded),
      accepted: (offset, bytes, milliseconds) => {
        this.#chunks.accepted(bytes, milliseconds);
        this.#accepted(offset);
      },
      expires: (at) => {
        this.#expires = at;
      },
      done: (key) => void this.#finish(key),
      failed: (failure) => void this.#failed(failure),
    };
    return engine;
  }

  /** The server took a request of ours. */
  #accepted(offset: number): void {
    this.#attempts.accepted(offset);
    this.#tokenRetried = false;
    this.#located(offset);
  }

  /** The server has `offset` bytes. */
  #located(offset: number): void {
    this.#start(offset);
    const { place } = this.options;
    const { url } = this;
    if (place && this.#recordId && url) localRecords.put(place, this.file, url, offset, this.#expires, Date.now());
  }

  #start(offset: number): void {
    if (this.#started) return;
    this.#started = true;
    this.resumedAt = offset;
    this.options.onstart?.(this);
  }

  #progress(loaded: number): void {
    this.#start(0);
    this.loaded = loaded;
    this.speed.add(loaded, performance.now());
    if (this.state !== "uploading" && isBusy(this.state)) this.#become("uploading");
    this.options.onprogress?.(this);
  }

  async #finish(key: string): Promise<void> {
    const run = this.#run;
    const { width, height } = await readDimensions(this.file);
    if (run !== this.#run) return;
    this.loaded = this.file.size;
    this.#end();
    if (this.#recordId) localRecords.drop(this.#recordId);
    this.value = { key, name: this.file.name, width, height, error: null };
    this.#become("done");
    this.#settled?.resolve(this.value);
  }

  async #failed(failure: Failure): Promise<void> {
    const run = this.#run;
    if (!failure.status && !(await isReadable(this.file))) {
      if (run === this.#run) this.#fail("error_unreadable", "unreadable", 0, false, failure.cause);
      return;
    }
    if (run !== this.#run) return;
    const decision = decide(failure, {
      online: navigator.onLine,
      attempt: this.attempt,
      canShrink: this.#chunks.canShrink,
      restarted: this.#restarted,
      tokenRetried: this.#tokenRetried,
    });
    switch (decision.act) {
      case "offline":
        return this.#goOffline();
      case "shrink":
        this.#chunks.refused();
        return this.#go();
      case "token":
        this.#tokenRetried = true;
        return this.#go();
      case "restart":
        this.#restarted = true;
        if (this.#recordId) localRecords.drop(this.#recordId);
        this.#engine = null;
        this.loaded = 0;
        return this.#go();
      case "wait":
        this.#attempts.failed();
        if (failure.silent) this.#patience.ranOut();
        if (failure.phase === "send" && !failure.status) this.#chunks.cut();
        this.#become("retrying", true);
        this.#timer = setTimeout(() => this.#go("retrying"), decision.seconds * 1000);
        return;
      case "fail": {
        const { status, text, code, cause } = failure;
        return this.#fail(text || messageKey(status), code, status, decision.canRetry, cause);
      }
    }
  }

  #fail(message: string, code: string, status: number, canRetry: boolean, cause: unknown): void {
    this.error = new AsyncUploadError(message, code || message, status, canRetry, cause);
    this.#halt();
    this.#end();
    this.#become("error");
    this.#settled?.reject(this.error);
    this.#settled = null;
  }

  /** Gives back what only a running upload may hold. */
  #end(): void {
    this.#listen(false);
    this.#release?.();
    this.#release = null;
  }

  #listen(on: boolean): void {
    const change = on ? addEventListener : removeEventListener;
    change("offline", this.#goOffline);
    change("online", this.#goOnline);
  }

  #become(state: State, again = false): void {
    const from = this.state;
    if (from === state && !again) return;
    this.state = state;
    this.options.onstate?.(this, from);
  }
}
