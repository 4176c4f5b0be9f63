/** The translated texts that the page hands to the element, with `{name}`-style placeholders. */

export type Values = Record<string, string | number>;

export type Messages = Record<string, string>;

/** The texts of a `messages` attribute; anything but an object of texts counts as none. */
export function parseMessages(text: string | null): Messages {
  try {
    const parsed: unknown = JSON.parse(text ?? "");
    if (parsed && typeof parsed === "object") {
      return Object.fromEntries(Object.entries(parsed).filter(([, value]) => typeof value === "string"));
    }
  } catch {
    // An overridden template without messages shows the keys, which is better than not working.
  }
  return {};
}

/** The text of `key` with its placeholders filled; unknown placeholders stay, a missing text shows its key. */
export function format(messages: Messages, key: string, values: Values = {}): string {
  return (messages[key] ?? key).replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}
