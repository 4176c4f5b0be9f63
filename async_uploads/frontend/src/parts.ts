/**
 * The pieces of the rendered template, found once. Pieces that an overridden template leaves out are `null` and
 * skipped; children we do not know are left alone.
 */

import { ACTIONS, type Action } from "./states.ts";

export interface Parts {
  input: HTMLInputElement;
  hidden: HTMLInputElement | null;
  panel: HTMLElement | null;
  preview: HTMLImageElement | null;
  name: HTMLElement | null;
  progress: HTMLProgressElement | null;
  status: HTMLElement | null;
  error: HTMLElement | null;
  live: HTMLElement | null;
  hint: HTMLElement | null;
  buttons: Map<Action, HTMLButtonElement>;
}

/** The pieces of `host`, or `null` when there is no file input (yet). */
export function findParts(host: HTMLElement): Parts | null {
  const input = host.querySelector<HTMLInputElement>("input[type=file]");
  if (!input) return null;
  const part = <T extends HTMLElement>(name: string): T | null => host.querySelector<T>(`[data-part=${name}]`);
  const buttons = new Map<Action, HTMLButtonElement>();
  for (const action of ACTIONS) {
    const button = host.querySelector<HTMLButtonElement>(`button[data-action=${action}]`);
    if (button) buttons.set(action, button);
  }
  return {
    input,
    hidden: host.querySelector("input[type=hidden]"),
    panel: part("panel"),
    preview: part("preview"),
    name: part("name"),
    progress: part("progress"),
    status: part("status"),
    error: part("error"),
    live: part("live"),
    hint: part("hint"),
    buttons,
  };
}

const DESCRIBING = ["status", "error"] as const;
const SUFFIX = "-async-";

/**
 * Gives the describing parts ids from the input's id and names them in its `aria-describedby`.
 *
 * Done here and not in the template, as formsets rewrite only `id`, `name` and `for` of a cloned row; called again
 * when the input's id changes.
 */
export function describeInput(parts: Parts): void {
  const { input } = parts;
  const base = input.id || input.name;
  const others = (input.getAttribute("aria-describedby") ?? "").split(/\s+/).filter((id) => {
    return id && !DESCRIBING.some((name) => id.endsWith(SUFFIX + name));
  });
  if (!base) return;
  for (const name of DESCRIBING) {
    const part = parts[name];
    if (!part) continue;
    const id = base + SUFFIX + name;
    if (part.id !== id) part.id = id; // writing the same again would wake the observer of ids
    others.push(id);
  }
  const described = others.join(" ");
  if (described !== (input.getAttribute("aria-describedby") ?? "")) input.setAttribute("aria-describedby", described);
}
