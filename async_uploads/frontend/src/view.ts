/** Shows a state in the parts of the template: texts, bar, buttons, preview, and where the focus goes. */

import type { Parts } from "./parts.ts";
import type { Settings } from "./settings.ts";
import { ACTIONS, type Action, listActions, nextFocus, type State } from "./states.ts";

export interface Picture {
  state: State;
  name: string;
  /** Bytes; `null` when unknown. */
  size: number | null;
  loaded: number;
  /** Bytes per second, and seconds; `null` while unknown. */
  speed: number | null;
  eta: number | null;
  attempt: number;
  /** Waits for `start()`. */
  ready: boolean;
  canRetry: boolean;
  canPause: boolean;
  locked: boolean;
}

/** A share between 0 and 1. An empty file is finished as soon as it exists. */
export function share(loaded: number, size: number | null): number {
  return size ? Math.min(loaded / size, 1) : loaded ? 1 : 0;
}

export class View {
  readonly #parts: Parts;
  readonly #settings: Pick<Settings, "text" | "numbers">;
  readonly #wasInvalid: string | null;
  #objectUrl = "";

  constructor(parts: Parts, settings: Pick<Settings, "text" | "numbers">) {
    this.#parts = parts;
    this.#settings = settings;
    this.#wasInvalid = parts.input.getAttribute("aria-invalid");
  }

  render(picture: Picture): void {
    const { state, name, size, loaded } = picture;
    const { panel, progress, status, hint } = this.#parts;
    if (panel) panel.hidden = state === "idle";
    if (hint) hint.hidden = picture.locked || state !== "idle";
    this.#text(this.#parts.name, state === "resumable" ? "" : name);
    this.#text(status, this.#status(picture));
    if (progress) {
      progress.hidden = state === "done" || state === "error";
      if (state === "uploading" && size && !loaded) progress.removeAttribute("value");
      else progress.value = share(loaded, size);
    }
    this.#buttons(picture);
  }

  /** An error in words, or "" to take it away; a complaint of the server stays marked until a new file comes. */
  showError(text: string): void {
    this.#text(this.#parts.error, text);
    const { input } = this.#parts;
    if (text) input.setAttribute("aria-invalid", "true");
    else if (this.#wasInvalid) input.setAttribute("aria-invalid", this.#wasInvalid);
    else input.removeAttribute("aria-invalid");
  }

  /** A small picture of `source` (a chosen image, or an address from the server), or none. */
  showPreview(source: File | string | null): void {
    const { preview } = this.#parts;
    URL.revokeObjectURL(this.#objectUrl);
    this.#objectUrl = source instanceof File ? URL.createObjectURL(source) : "";
    if (!preview) return;
    const url = this.#objectUrl || source;
    preview.hidden = true;
    preview.onload = () => {
      preview.hidden = false;
    };
    if (typeof url === "string" && url) preview.src = url;
    else preview.removeAttribute("src");
  }

  #status({ state, name, size, loaded, speed, eta, attempt, ready }: Picture): string {
    const { numbers } = this.#settings;
    const values = {
      name,
      attempt: numbers.count(attempt),
      percent: numbers.percent(share(loaded, size)),
      sent: numbers.size(loaded),
      total: numbers.size(size ?? 0),
      size: numbers.size(size ?? 0),
      speed: speed === null ? "" : numbers.size(speed),
      left: eta === null ? "" : numbers.duration(eta),
    };
    const keys: Record<State, string> = {
      idle: "",
      error: "",
      resumable: "resumable",
      retrying: "retrying",
      offline: "offline",
      uploading: !loaded ? "starting" : speed === null ? "uploading" : "uploading_speed",
      paused: ready ? "ready" : "paused",
      done: size === null ? "done_unsized" : "done",
    };
    return keys[state] && this.#settings.text(keys[state], values);
  }

  #buttons({ state, name, canRetry, canPause, locked }: Picture): void {
    const { buttons, input } = this.#parts;
    const shown = locked ? [] : listActions(state, canRetry, canPause);
    let lost: Action | null = null;
    for (const action of ACTIONS) {
      const button = buttons.get(action);
      if (!button) continue;
      if (button === document.activeElement && !shown.includes(action)) lost = action;
      if (name) button.setAttribute("aria-label", this.#settings.text(`${action}_name`, { name }));
      else button.removeAttribute("aria-label");
    }
    for (const action of shown) buttons.get(action)?.removeAttribute("hidden");
    // Before the focused button goes, so that the focus is never nowhere.
    const target = lost && nextFocus(lost, shown);
    if (lost) ((target && buttons.get(target)) || input).focus();
    for (const [action, button] of buttons) button.hidden = !shown.includes(action);
  }

  #text(part: HTMLElement | null, text: string): void {
    if (part && part.textContent !== text) part.textContent = text;
  }
}
