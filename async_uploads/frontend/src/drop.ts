/** Files that come by drag and drop or from the clipboard; extras beside the native input, never the only way. */

/** What a drop contained: one file, or the message key that says why not. */
export type Dropped = File | "error_one_file" | "error_folder" | null;

/** The one file of a transfer. */
export function readTransfer(data: DataTransfer | null): Dropped {
  if (!data?.files.length) return null;
  if (data.files.length > 1) return "error_one_file";
  const entry = data.items[0]?.webkitGetAsEntry?.();
  return entry?.isDirectory ? "error_folder" : (data.files[0] ?? null);
}

/** Listens on `host` for as long as it lives; `take` is called with what came unless `isLocked`. */
export function listenForFiles(host: HTMLElement, isLocked: () => boolean, take: (dropped: Exclude<Dropped, null>) => void): void {
  let depth = 0;
  const mark = (on: boolean): void => {
    depth = on ? depth : 0;
    host.toggleAttribute("dragging", on);
  };
  const isOurs = (event: DragEvent): boolean => !isLocked() && (event.dataTransfer?.types.includes("Files") ?? false);

  host.addEventListener("dragenter", (event) => {
    if (!isOurs(event)) return;
    depth += 1;
    mark(true);
  });
  host.addEventListener("dragleave", () => {
    depth -= 1;
    if (depth <= 0) mark(false);
  });
  host.addEventListener("dragover", (event) => {
    if (isOurs(event)) event.preventDefault();
  });
  host.addEventListener("drop", (event) => {
    mark(false);
    if (!isOurs(event)) return;
    event.preventDefault();
    const dropped = readTransfer(event.dataTransfer);
    if (dropped) take(dropped);
  });
  host.addEventListener("paste", (event) => {
    const pasted = isLocked() ? null : readTransfer(event.clipboardData);
    if (!pasted) return;
    event.preventDefault();
    take(pasted);
  });
}
