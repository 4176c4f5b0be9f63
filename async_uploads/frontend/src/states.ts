/**
 * The states of an upload field and which buttons each of them shows.
 *
 * Rules for this file: plain data and pure functions, nothing of the page.
 */

export type State = "idle" | "resumable" | "uploading" | "retrying" | "offline" | "paused" | "done" | "error";

export type Action = "pause" | "resume" | "retry" | "cancel" | "discard" | "remove";

export const ACTIONS: readonly Action[] = ["pause", "resume", "retry", "cancel", "discard", "remove"];

const BUTTONS: Record<State, readonly Action[]> = {
  idle: [],
  resumable: ["discard"],
  uploading: ["pause", "cancel"],
  retrying: ["pause", "cancel"],
  offline: ["cancel"],
  paused: ["resume", "cancel"],
  done: ["remove"],
  error: ["retry", "cancel"],
};

/** Whether bytes are on their way or will be without anybody doing anything: the form has to wait. */
export function isBusy(state: State): boolean {
  return state === "uploading" || state === "retrying" || state === "offline";
}

/** The buttons to show; `retry` only where it can help, `pause` only where it does not throw bytes away. */
export function listActions(state: State, canRetry: boolean, canPause: boolean): readonly Action[] {
  return BUTTONS[state].filter((action) => (action !== "retry" || canRetry) && (action !== "pause" || canPause));
}

/** Where the focus goes when the focused button disappears; `null` means the file input. */
export function nextFocus(pressed: Action, shown: readonly Action[]): Action | null {
  const wanted: Partial<Record<Action, Action>> = { pause: "resume", resume: "pause", retry: "pause" };
  const target = wanted[pressed];
  return target && shown.includes(target) ? target : null;
}
