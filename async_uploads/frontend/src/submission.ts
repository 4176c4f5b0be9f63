/**
 * Forms wait for their uploads: one set of listeners for all fields of a page.
 *
 * The submit event is stopped in its capture phase, before validation scripts, htmx or Turbo see it, and made again
 * with the same button when the last upload has finished. Fields find their form by `input.form`, so a field outside
 * with `form="id"` counts.
 */

import { isBusy, type State } from "./states.ts";

/** What this module needs to know of an `<async-upload>`. */
export interface Field extends HTMLElement {
  readonly form: HTMLFormElement | null;
  readonly inputName: string;
  readonly state: State;
  readonly isReady: boolean;
  start(): void;
  clear(): void;
  /** Says why the form cannot be sent and takes the focus. */
  block(): void;
  say(key: string): void;
  /** The value is on its way; forget what was kept for a reload. */
  submitted(): void;
  emit(type: string, detail: object, cancelable?: boolean): boolean;
}

const WAITING = "data-async-upload-waiting";

const fields = new Set<Field>();
const roots = new WeakSet<Node>();
const waiting = new Map<HTMLFormElement, HTMLElement | null>();
const settling = new Set<() => void>();
let submitting = false;

const fieldsOf = (form: HTMLFormElement | null): Field[] => [...fields].filter((field) => field.form === form);
const isBlocking = (field: Field): boolean => field.state === "error" || (field.state === "paused" && !field.isReady);

/** Takes a field under watch; the listeners go on its document or shadow root, as submit events do not leave those. */
export function watchField(field: Field): void {
  fields.add(field);
  const root = field.getRootNode();
  if (roots.has(root)) return;
  roots.add(root);
  root.addEventListener("submit", onSubmit as EventListener, true);
  root.addEventListener("formdata", onFormData as EventListener);
  root.addEventListener("reset", onReset);
  root.addEventListener("keydown", onKey as EventListener);
  if (roots.has(window as unknown as Node)) return;
  roots.add(window as unknown as Node);
  addEventListener("submit", (event) => {
    submitting ||= !event.defaultPrevented;
  });
  addEventListener("beforeunload", (event) => {
    if (!submitting && [...fields].some((other) => isBusy(other.state))) event.preventDefault();
  });
  addEventListener("pageshow", () => {
    submitting = false;
  });
}

export function unwatchField(field: Field): void {
  fields.delete(field);
  fieldChanged(field);
}

/** A field has a new state: send what waited for it, or give up. */
export function fieldChanged(field: Field): void {
  if (isBusy(field.state)) submitting = false;
  for (const check of [...settling]) check();
  for (const form of [...waiting.keys()]) {
    const own = fieldsOf(form);
    const blocking = own.find(isBlocking);
    if (blocking) {
      callOff(form);
      if (blocking.state === "error") blocking.block();
    } else if (!own.some((other) => isBusy(other.state))) {
      resume(form, own);
    }
  }
}

/** Resolves when the field is not busy. */
export function fieldSettled(field: Field): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (isBusy(field.state)) return;
      settling.delete(check);
      resolve();
    };
    settling.add(check);
    check();
  });
}

function onSubmit(event: SubmitEvent): void {
  const form = event.target as HTMLFormElement;
  const own = fieldsOf(form);
  for (const field of own) if (field.isReady) field.start();
  const blocking = own.find(isBlocking);
  const busy = own.filter((field) => isBusy(field.state));
  const { submitter } = event;
  if (!blocking && !busy.every((field) => field.emit("submit-wait", { submitter }, true))) busy.length = 0;
  if (!blocking && !busy.length) {
    for (const field of own) field.submitted();
    return;
  }
  event.preventDefault();
  event.stopImmediatePropagation();
  if (blocking) {
    blocking.block();
    return;
  }
  waiting.set(form, submitter);
  form.setAttribute(WAITING, "");
  busy[0]?.say("waiting");
}

function resume(form: HTMLFormElement, own: Field[]): void {
  const submitter = waiting.get(form) as HTMLButtonElement | null;
  waiting.delete(form);
  form.removeAttribute(WAITING);
  if (!form.isConnected) return;
  for (const field of own) field.emit("submit-resume", { submitter });
  // A button that has gone meanwhile, or sits elsewhere, would make requestSubmit throw.
  const usable = submitter?.isConnected && submitter.form === form && !submitter.disabled;
  form.requestSubmit(usable ? submitter : null);
}

function callOff(form: HTMLFormElement): void {
  waiting.delete(form);
  form.removeAttribute(WAITING);
  fieldsOf(form)[0]?.say("not_sent");
}

function onKey(event: KeyboardEvent): void {
  if (event.key === "Escape") for (const form of [...waiting.keys()]) callOff(form);
}

/** The file input keeps its name for the browser's form restoration; what is posted is only the JSON value. */
function onFormData(event: FormDataEvent): void {
  for (const { inputName: name } of fieldsOf(event.target as HTMLFormElement)) {
    const values = event.formData.getAll(name);
    const texts = values.filter((value) => typeof value === "string");
    if (texts.length === values.length) continue;
    event.formData.delete(name);
    for (const text of texts) event.formData.append(name, text);
  }
}

function onReset(event: Event): void {
  setTimeout(() => {
    if (!event.defaultPrevented) for (const field of fieldsOf(event.target as HTMLFormElement)) field.clear();
  });
}
