/**
 * One upgraded field: from a chosen file to the value in the form.
 *
 * It owns no bytes (`upload.ts`), no pixels (`view.ts`) and no form (`submission.ts`); it connects them. At any time a
 * field holds at most one of: an upload of this page, a value from before, the offer to go on, a refusal.
 */

import { isAccepted, isSmallEnough } from "./accept.ts";
import { Announcer } from "./announcer.ts";
import { isImageName, putInto } from "./files.ts";
import { deleteUpload } from "./http.ts";
import type { Values } from "./messages.ts";
import { AsyncUploadError } from "./outcome.ts";
import type { Parts } from "./parts.ts";
import { localRecords, sessionRecords } from "./records.ts";
import { findFinished, findUnfinished, isSameFile, type Unfinished } from "./recovery.ts";
import type { Settings } from "./settings.ts";
import { isBusy, type State } from "./states.ts";
import { AsyncUpload } from "./upload.ts";
import { type AsyncUploadValue, buildValue, type KnownValue, parseValue } from "./value.ts";
import { share, View } from "./view.ts";

const REPAINT = 250;

export interface Owner extends HTMLElement {
  emit(type: string, detail?: object, cancelable?: boolean): boolean;
  /** Called after everything about a new state has been shown and said. */
  changed(): void;
}

export interface Progress {
  loaded: number;
  total: number;
  /** Bytes per second, and seconds; `null` while unknown. */
  speed: number | null;
  eta: number | null;
}

export class Controller {
  state: State = "idle";
  /** A chosen file waits for `start()`. */
  isReady = false;
  upload: AsyncUpload | null = null;
  known: KnownValue | null = null;

  readonly #owner: Owner;
  readonly #parts: Parts;
  readonly #settings: Settings;
  readonly #saved: { keep(): void };
  readonly #view: View;
  readonly #announcer: Announcer;
  #required: boolean;
  #unfinished: Unfinished | null = null;
  #refusal: { name: string; text: string } | null = null;
  #painting: ReturnType<typeof setTimeout> | undefined;
  #recovering: Promise<void> = Promise.resolve();

  constructor(owner: Owner, parts: Parts, settings: Settings, saved: { keep(): void }) {
    this.#owner = owner;
    this.#parts = parts;
    this.#settings = settings;
    this.#saved = saved;
    this.#view = new View(parts, settings);
    this.#announcer = new Announcer(parts.live);
    this.#required = parts.input.required;
    this.known = parseValue(parts.hidden?.value);
    if (!this.known) this.#write();
    this.#become(this.known ? "done" : "idle");
    this.#showPreview(this.known?.url ?? null);
  }

  get value(): AsyncUploadValue | null {
    return this.known && buildValue(this.known);
  }

  get isLocked(): boolean {
    return this.#parts.input.matches(":disabled");
  }

  get progress(): Progress {
    const { upload } = this;
    const total = upload?.file.size ?? this.#unfinished?.record.size ?? this.known?.size ?? 0;
    const now = performance.now();
    return {
      loaded: upload?.loaded ?? this.#unfinished?.record.offset ?? 0,
      total,
      speed: upload && isBusy(this.state) ? upload.speed.rate(now) : null,
      eta: upload && isBusy(this.state) ? upload.speed.secondsLeft(total, now) : null,
    };
  }

  /** Takes a file; `false` when it was refused. It replaces what was there. */
  select(file: File): boolean {
    const { input } = this.#parts;
    if (this.isLocked) return false;
    if (!this.#owner.emit("select", { file }, true)) {
      input.value = "";
      return false;
    }
    // The offer to go on with this file is taken: its record is found again by the upload.
    if (this.#unfinished && isSameFile(file, this.#unfinished.record)) this.#unfinished = null;
    this.#empty();
    putInto(input, file);
    const { name, size } = file;
    const { maxSize, numbers } = this.#settings;
    if (!isSmallEnough(size, maxSize)) {
      return this.refuse("error_size", name, { size: numbers.size(size), limit: numbers.size(maxSize) });
    }
    if (!isAccepted(input.accept, name, file.type)) return this.refuse("error_type", name, { types: input.accept });
    this.#saved.keep();
    const upload = new AsyncUpload(file, {
      ...this.#settings.upload,
      onstart: ({ resumedAt }) => {
        if (upload === this.upload) this.#owner.emit("start", { resumed: resumedAt > 0, offset: resumedAt });
      },
      onstate: (_, from) => {
        if (upload === this.upload) this.#follow(upload, from);
      },
      onprogress: () => {
        if (upload === this.upload) this.#painting ??= setTimeout(() => this.#repaint(), REPAINT);
      },
    });
    this.upload = upload;
    this.#showPreview(file);
    this.isReady = !this.#settings.autostart;
    if (this.isReady) this.#become("paused");
    else void upload.start();
    return true;
  }

  /** Says why something cannot even be tried. */
  refuse(key: string, name = "", values: Values = {}): false {
    this.#empty();
    const text = this.#settings.text(key, { name, ...values });
    this.#refusal = { name, text };
    this.#become("error");
    this.#complain(new AsyncUploadError(text, key.replace("error_", ""), 0, false));
    return false;
  }

  /** Starts, resumes or tries again. */
  start(): void {
    this.isReady = false;
    if (this.state === "paused" || this.state === "error") void this.upload?.start();
  }

  /** Shows a value that the server gave back, or that a script has. */
  setValue(raw: unknown): void {
    this.dismiss();
    this.known = parseValue(raw);
    if (!this.known) return;
    this.#become("done");
    this.#commit();
    this.#showPreview(this.known.url);
  }

  /** Empties the field, whatever it holds; what is at the server is deleted there. */
  dismiss(): void {
    if (this.state === "idle") return;
    const name = this.#name;
    const hadValue = this.known !== null;
    this.#empty();
    this.#parts.input.value = "";
    this.#become("idle");
    this.#announcer.say(this.#settings.text(hadValue ? "say_removed" : "say_cancelled", { name }));
    this.#owner.emit(hadValue ? "clear" : "cancel");
  }

  /** Says why the form cannot be sent, and takes the focus. */
  block(): void {
    const { error } = this.upload ?? {};
    const reason = this.#refusal?.text ?? (error && this.#settings.text(error.message, { name: this.#name }));
    const advice = this.#settings.text(this.state === "paused" ? "blocked_paused" : "blocked_error");
    this.#view.showError([this.state === "error" && reason, advice].filter(Boolean).join(" "));
    this.#parts.input.focus();
  }

  say(key: string): void {
    const { loaded, total } = this.progress;
    const percent = this.#settings.numbers.percent(share(loaded, total));
    this.#announcer.say(this.#settings.text(key, { name: this.#name, percent }));
  }

  /** The value was sent; a reload must not bring it back. */
  forget(): void {
    sessionRecords.dropFinished(this.#settings.place);
  }

  /** Looks for what an earlier visit left: at the upgrade, and when the browser has restored the form. */
  recover(): void {
    this.#recovering = this.#recovering.then(() => this.#recoverOnce());
  }

  /** Somebody may have written `required`; a field that holds a value asks for it only when it is empty again. */
  followRequired(): void {
    const { input } = this.#parts;
    if (!this.known) this.#required = input.required;
    else if (input.required) {
      this.#required = true;
      input.required = false;
    }
  }

  paint(): void {
    const { loaded, total, speed, eta } = this.progress;
    this.#view.render({
      state: this.state,
      name: this.#name,
      size: this.upload ? total : this.known ? this.known.size : total,
      loaded,
      speed,
      eta,
      attempt: this.upload?.attempt ?? 0,
      ready: this.isReady,
      canRetry: this.upload?.error?.canRetry ?? false,
      canPause: this.#settings.isTus,
      locked: this.isLocked,
    });
  }

  get #name(): string {
    return this.upload?.file.name ?? this.#unfinished?.record.name ?? this.known?.name ?? this.#refusal?.name ?? "";
  }

  /** The upload has a new state, and so have we. */
  #follow(upload: AsyncUpload, from: State): void {
    const { state, value, file, url } = upload;
    if (state === "done" && value) {
      this.known = { ...value, size: file.size, type: file.type, url: null, uploadUrl: url };
      sessionRecords.putFinished(this.#settings.place, this.known);
      this.#write();
    }
    this.#become(state);
    if (state === "uploading" && (from === "idle" || from === "error")) {
      this.#announcer.gate.start(share(upload.loaded, file.size), performance.now());
      this.say("say_start");
    } else if (state === "uploading" && (from === "paused" || from === "offline")) this.say("say_resumed");
    else if (state === "paused") this.say("say_paused");
    else if (state === "offline") this.say("offline");
    else if (state === "error" && upload.error) this.#complain(upload.error);
    else if (state === "done") {
      this.say("say_done");
      this.#commit();
      this.#owner.emit("complete");
    }
  }

  /** Shows an error. What would be posted says it too, for a `form.submit()` that does not ask us. */
  #complain({ message: key, code, status, cause }: AsyncUploadError): void {
    const message = this.#settings.text(key, { name: this.#name });
    const shown = this.#owner.emit("error", { message, code, status, cause }, true);
    this.#view.showError(shown ? message : "");
    const { hidden } = this.#parts;
    const posted = { key: "", name: this.#name, width: null, height: null, error: message };
    if (hidden) hidden.value = JSON.stringify(posted);
  }

  /** Back to nothing, without a word: what ran is cancelled, what was kept is forgotten. */
  #empty(): void {
    const { upload, known } = this;
    const unfinished = this.#unfinished;
    const { headersFor } = this.#settings;
    this.upload = this.known = this.#unfinished = this.#refusal = null;
    this.isReady = false;
    if (upload) void upload.cancel();
    else if (known?.uploadUrl) void deleteUpload(known.uploadUrl, headersFor);
    if (unfinished) {
      localRecords.drop(unfinished.id);
      void deleteUpload(unfinished.record.url, headersFor);
    }
    this.forget();
    this.#view.showError("");
    this.#showPreview(null);
    if (known) this.#commit();
    else this.#write();
  }

  #write(): void {
    const { hidden, input } = this.#parts;
    if (hidden) hidden.value = this.known ? JSON.stringify(this.value) : "";
    input.required = this.#required && !this.known;
  }

  /** Writes the value into the form and says so. */
  #commit(): void {
    this.#write();
    for (const type of ["input", "change"]) this.#owner.dispatchEvent(new Event(type, { bubbles: true, composed: true }));
  }

  #showPreview(source: File | string | null): void {
    const isImage = source instanceof File ? source.type.startsWith("image/") : this.known?.width || isImageName(this.#name);
    this.#view.showPreview(isImage && this.#settings.preview ? source : null);
  }

  async #recoverOnce(): Promise<void> {
    const { input } = this.#parts;
    const { place, headersFor, isTus } = this.#settings;
    const isFree = (): boolean => this.#owner.isConnected && (this.state === "idle" || this.state === "resumable");
    if (!isFree()) return;
    const finished = await findFinished(place, headersFor);
    if (!isFree()) return;
    const given = input.files?.[0];
    if (finished && (!given || (given.name === finished.name && given.size === finished.size))) {
      this.#unfinished = null;
      this.known = finished;
      this.#become("done");
      this.#commit();
      return;
    }
    // The browser gave the file back (history, session restore) without a change event.
    if (given) return void this.select(given);
    if (!isTus || this.#unfinished) return;
    const unfinished = await findUnfinished(place, headersFor);
    if (!unfinished || this.state !== "idle" || input.files?.length) return;
    this.#unfinished = unfinished;
    this.#become("resumable");
  }

  #become(to: State): void {
    const from = this.state;
    this.state = to;
    this.#owner.setAttribute("state", to);
    if (to !== "error") this.#view.showError("");
    this.#parts.input.required = this.#required && !this.known;
    this.paint();
    if (from === to) return;
    this.#owner.emit("statechange", { from, to });
    queueMicrotask(() => this.#owner.changed());
  }

  #repaint(): void {
    this.#painting = undefined;
    if (!isBusy(this.state)) return;
    const { progress } = this;
    this.paint();
    this.#owner.emit("progress", progress);
    if (this.#announcer.gate.isDue(share(progress.loaded, progress.total), performance.now())) this.say("say_progress");
  }
}
