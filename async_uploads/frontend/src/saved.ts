/** The file that is already saved: Django's clear checkbox becomes a "Remove" button with undo. */

/**
 * Wires the checkbox of `host`, if the template rendered one. `text` says that the file will go.
 *
 * Returns how to take the mark back, which a newly chosen file does: replacing and clearing contradict each other.
 */
export function wireSaved(host: HTMLElement, text: string): { keep(): void } {
  const find = <T extends HTMLElement>(selector: string): T | null => host.querySelector<T>(`[data-part=current] ${selector}`);
  const box = find<HTMLInputElement>("[data-part=clear] input[type=checkbox]");
  const remove = find<HTMLButtonElement>("[data-action=remove-saved]");
  const undo = find<HTMLButtonElement>("[data-action=undo]");
  const note = find("[data-part=saved-note]");
  const link = find("a");
  if (!box || !remove || !undo) return { keep: () => undefined };

  const show = (): void => {
    const focused = document.activeElement === remove || document.activeElement === undo;
    remove.hidden = box.checked;
    undo.hidden = !box.checked;
    if (focused) (box.checked ? undo : remove).focus();
    if (note) note.textContent = box.checked ? text : "";
    host.toggleAttribute("clearing", box.checked);
  };
  const set = (checked: boolean): void => {
    if (box.checked === checked) return;
    box.checked = checked;
    box.dispatchEvent(new Event("change", { bubbles: true }));
    show();
  };
  const clear = box.closest<HTMLElement>("[data-part=clear]");
  if (clear) clear.hidden = true;
  if (link) remove.setAttribute("aria-label", `${remove.textContent?.trim()} ${link.textContent?.trim()}`);
  remove.onclick = () => set(true);
  undo.onclick = () => set(false);
  box.form?.addEventListener("reset", () => setTimeout(show));
  show();
  return { keep: () => set(false) };
}
