/**
 * Renders our Django template without Django: just the few tags it uses, so that the page under test is the real one.
 * The end-to-end tests of the Python side cover the same with Django itself.
 */

import { readFileSync } from "node:fs";

const FILE = new URL("../../../templates/async_uploads/widgets/async_upload.html", import.meta.url);
const TEXTS = new URL("../../../texts.py", import.meta.url);

const escape = (value) => String(value ?? "").replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
const look = (context, path) => path.split(".").reduce((value, name) => value?.[name], context);

/** The text of the template for `widget`, the widget's context. */
export function render(widget) {
  const context = { widget, upload: widget.async_upload };
  const source = readFileSync(FILE, "utf8")
    .replace(/\{% comment %\}.*?\{% endcomment %\}/s, "")
    .replace(/\{% include [^%]*%\}/, () => attributes(widget.attrs))
    .replace(/\{% (end)?with[^%]*%\}/g, "");
  const tokens = source.split(/(\{%.*?%\}|\{\{.*?\}\})/);
  const shown = [true];
  let text = "";
  for (const token of tokens) {
    const [, test] = /^\{% if (\S+) %\}$/.exec(token) ?? [];
    const [, path] = /^\{\{ ([\w.]+)(?:\|.*)? \}\}$/.exec(token) ?? [];
    const not = /^\{% if not (\S+) %\}$/.exec(token)?.[1];
    if (test) shown.push(shown.at(-1) && Boolean(look(context, test)));
    else if (not) shown.push(shown.at(-1) && !look(context, not));
    else if (token === "{% endif %}") shown.pop();
    else if (token.startsWith("{%")) throw new Error(`the test renderer does not know ${token}`);
    else if (shown.at(-1)) text += path ? escape(look(context, path)) : token;
  }
  return text;
}

const attributes = (attrs) =>
  Object.entries(attrs)
    .map(([name, value]) => (value === true ? ` ${name}` : value === false ? "" : ` ${name}="${escape(value)}"`))
    .join("");

/** The English texts, read from the Python catalogue so that a missing one is noticed here. */
export function readTexts() {
  const source = readFileSync(TEXTS, "utf8");
  const found = (block) =>
    Object.fromEntries([...block.matchAll(/"(\w+)":\s*(?:_|gettext_lazy)\(\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\)/g)].map(
      ([, key, text]) => [key, [...text.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map((part) => part[1]).join("")],
    ));
  const [, labels = "", messages = ""] = /LABELS[^=]*=\s*\{(.*?)\n\}.*?MESSAGES[^=]*=\s*\{(.*?)\n\}/s.exec(source) ?? [];
  return { labels: found(labels), messages: found(messages) };
}
