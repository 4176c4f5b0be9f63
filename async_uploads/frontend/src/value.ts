/** The value that the form posts, and what else comes with it when the server renders it again. */

export interface AsyncUploadValue {
  key: string;
  name: string;
  width: number | null;
  height: number | null;
  error: string | null;
}

/** A value as the server rendered it or as this browser kept it. */
export interface KnownValue extends AsyncUploadValue {
  /** Bytes. */
  size: number | null;
  /** A short-lived address for the preview. */
  url: string | null;
  /** Where the upload lives, known only in the browser that made it. */
  uploadUrl: string | null;
  type: string;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");
const number = (value: unknown): number | null => (typeof value === "number" ? value : null);

/** A value from JSON text or an object; `null` for an empty or unreadable one, or one without a key. */
export function parseValue(raw: unknown): KnownValue | null {
  let parsed = raw;
  if (typeof raw === "string") {
    try {
      parsed = JSON.parse(raw);
    } catch {
      return null;
    }
  }
  if (!parsed || typeof parsed !== "object") return null;
  const given = parsed as Record<string, unknown>;
  if (!text(given.key)) return null;
  return {
    key: text(given.key),
    name: text(given.name),
    width: number(given.width),
    height: number(given.height),
    error: text(given.error) || null,
    size: number(given.size),
    url: text(given.url) || null,
    uploadUrl: text(given.uploadUrl) || null,
    type: text(given.type),
  };
}

/** The members that are posted, in the order of the documentation. */
export function buildValue({ key, name, width, height, error }: AsyncUploadValue): AsyncUploadValue {
  return { key, name, width, height, error };
}
