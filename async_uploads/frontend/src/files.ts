/** What can be learned from a chosen file in the browser, and how to put one into a file input. */

export interface Dimensions {
  width: number | null;
  height: number | null;
}

const UNKNOWN: Dimensions = { width: null, height: null };

/** Pixels of a raster image; `null` when unknown, and for an SVG, whose size is a matter of opinion. */
export async function readDimensions(file: File): Promise<Dimensions> {
  if (!file.type.startsWith("image/") || file.type.startsWith("image/svg")) return UNKNOWN;
  try {
    const bitmap = await createImageBitmap(file);
    const { width, height } = bitmap;
    bitmap.close();
    return { width, height };
  } catch {
    return UNKNOWN;
  }
}

/** A file that was moved or changed since it was chosen fails like a lost network; this tells them apart. */
export async function isReadable(file: File): Promise<boolean> {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** Whether a preview is worth a try, for files of which only the name is known. */
export function isImageName(name: string): boolean {
  return /\.(png|jpe?g|gif|webp|avif|bmp|svg)$/i.test(name);
}

/** Lets the native input show a file that did not come through it. */
export function putInto(input: HTMLInputElement, file: File): void {
  if (input.files?.[0] === file) return;
  const transfer = new DataTransfer();
  transfer.items.add(file);
  input.files = transfer.files;
}
