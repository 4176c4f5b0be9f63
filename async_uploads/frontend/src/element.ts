/**
 * The `<async-upload>` element: when a rendered file input becomes an upload field, and what scripts may do with it.
 *
 * Everything the user sees comes from light DOM, so the page styles it and formsets may clone it. Identity is only in
 * the inner inputs' `name` and `id`; the element follows them.
 */

import { Controller, type Owner, type Progress } from "./controller.ts";
import { listenForFiles } from "./drop.ts";
import type { HeaderSource } from "./headers.ts";
import { describeInput, findParts, type Parts } from "./parts.ts";
import { wireSaved } from "./saved.ts";
import { Settings } from "./settings.ts";
import { ACTIONS, type Action, isBusy, type State } from "./states.ts";
import { type Field, fieldChanged, fieldSettled, unwatchField, watchField } from "./submission.ts";
import type { AsyncUploadValue } from "./value.ts";

/** What others write on our inputs: formsets, scripts, and htmx 4, which puts the server's attributes back after a swap. */
const FOLLOWED = ["name", "id", "disabled", "required", "aria-describedby"];

export class AsyncUploadElement extends HTMLElement implements Field, Owner {
  /** Own headers for requests to the endpoint's origin, for example `{Authorization: …}`. */
  headers: HeaderSource | undefined = Reflect.get(this, "headers"); // set before the script was there

  #parts: Parts | null = null;
  #controller: Controller | null = null;
  #suspended = false;
  #early: unknown = null;
  readonly #observer = new MutationObserver(() => (this.#controller ? this.#sync() : this.#upgrade()));
  readonly #onPageShow = (): void => this.#controller?.recover();

  // ---- The page puts us in and takes us out

  connectedCallback(): void {
    if (this.#controller) {
      this.#attach();
      if (this.#suspended) this.resume();
      this.#suspended = false;
    } else if (document.readyState === "loading") {
      document.addEventListener("DOMContentLoaded", () => this.isConnected && this.#upgrade(), { once: true });
    } else {
      this.#upgrade();
    }
  }

  disconnectedCallback(): void {
    // A move within the page disconnects and connects again at once; that must not interrupt.
    queueMicrotask(() => {
      if (this.isConnected || !this.#controller) return;
      removeEventListener("pageshow", this.#onPageShow);
      this.#suspended = this.busy;
      this.#controller.upload?.suspend();
      unwatchField(this);
    });
  }

  #upgrade(): void {
    if (this.#controller) return;
    const parts = findParts(this);
    this.#observer.observe(this, { subtree: true, attributes: true, attributeFilter: FOLLOWED });
    // A formset's empty row becomes a field when its name becomes concrete.
    if (!parts || parts.input.name.includes("__prefix__") || !this.getAttribute("endpoint")) return;
    if (this.hasAttribute("state")) cleanClone(parts);

    const settings = new Settings(this, parts);
    const saved = wireSaved(this, settings.text("saved_removed"));
    this.#parts = parts;
    const controller = new Controller(this, parts, settings, saved);
    this.#controller = controller;
    for (const action of ACTIONS) parts.buttons.get(action)?.addEventListener("click", () => this.#act(action));
    parts.input.addEventListener("change", () => {
      const file = parts.input.files?.[0];
      if (file) controller.select(file);
      else controller.dismiss();
    });
    listenForFiles(this, () => controller.isLocked, (dropped) => {
      if (dropped instanceof File) controller.select(dropped);
      else controller.refuse(dropped);
    });
    this.#attach();
    this.#sync();
    if (Object.hasOwn(this, "value")) {
      // Set by a script before ours was there; such a property hides our accessor.
      this.#early = Reflect.get(this, "value");
      Reflect.deleteProperty(this, "value");
    }
    if (this.#early) controller.setValue(this.#early);
    controller.recover();
  }

  #attach(): void {
    addEventListener("pageshow", this.#onPageShow);
    watchField(this);
  }

  /** Follows the input: formsets rename rows, scripts disable them. */
  #sync(): void {
    if (!this.#parts) return;
    const { input, hidden } = this.#parts;
    describeInput(this.#parts);
    if (hidden && hidden.name !== input.name) hidden.name = input.name;
    if (hidden && hidden.disabled !== input.disabled) hidden.disabled = input.disabled;
    this.#controller?.followRequired();
    this.#controller?.paint();
  }

  #act(action: Action): void {
    if (action === "pause" || action === "resume" || action === "retry") this[action]();
    else this.clear();
  }

  // ---- What scripts may use

  get form(): HTMLFormElement | null {
    return this.#parts?.input.form ?? null;
  }

  get state(): State {
    return this.#controller?.state ?? "idle";
  }

  get busy(): boolean {
    return isBusy(this.state);
  }

  get file(): File | null {
    return this.#controller?.upload?.file ?? null;
  }

  get progress(): Progress {
    return this.#controller?.progress ?? { loaded: 0, total: 0, speed: null, eta: null };
  }

  /** What the form posts, or `null`. Settable with a value that the server gave back. */
  get value(): AsyncUploadValue | null {
    return this.#controller?.value ?? null;
  }

  set value(value: AsyncUploadValue | string | null) {
    if (this.#controller) this.#controller.setValue(value);
    else this.#early = value;
  }

  /** Takes a file as if the user had chosen it. `false` when it was refused. */
  select(file: File): boolean {
    return this.#controller?.select(file) ?? false;
  }

  start(): void {
    this.#controller?.start();
  }

  pause(): void {
    this.#controller?.upload?.pause();
  }

  resume(): void {
    this.start();
  }

  retry(): void {
    this.start();
  }

  /** Stops the upload, has the server throw it away and empties the field. */
  cancel(): void {
    this.clear();
  }

  /** Empties the field, whatever it holds. */
  clear(): void {
    this.#controller?.dismiss();
  }

  /** The value (or `null`) as soon as the field is not busy. */
  async whenSettled(): Promise<AsyncUploadValue | null> {
    await fieldSettled(this);
    return this.value;
  }

  // ---- What our own modules use

  get inputName(): string {
    return this.#parts?.input.name ?? "";
  }

  get isReady(): boolean {
    return this.#controller?.isReady ?? false;
  }

  block(): void {
    this.#controller?.block();
  }

  say(key: string): void {
    this.#controller?.say(key);
  }

  submitted(): void {
    this.#controller?.forget();
  }

  changed(): void {
    fieldChanged(this);
  }

  emit(type: string, detail: object = {}, cancelable = false): boolean {
    const all = { file: this.file, state: this.state, value: this.value, ...detail };
    const init = { bubbles: true, composed: true, cancelable, detail: all };
    return this.dispatchEvent(new CustomEvent(`async-upload:${type}`, init));
  }
}

/** A row that a script cloned from a field in use carries that field's value and complaints along. */
function cleanClone({ input, hidden, error, live }: Parts): void {
  input.value = ""; // some browsers copy the chosen file
  if (hidden) hidden.value = "";
  for (const part of [error, live]) if (part) part.textContent = "";
  input.removeAttribute("aria-invalid");
}
