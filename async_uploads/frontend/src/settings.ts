/** What the server wrote into the element's attributes, read when it is needed: scripts may change them. */

import { buildHeaders, type HeaderSource, type TokenSource } from "./headers.ts";
import { format, type Messages, parseMessages, type Values } from "./messages.ts";
import { Numbers } from "./numbers.ts";
import type { Parts } from "./parts.ts";
import { buildPlace } from "./records.ts";
import type { AsyncUploadOptions } from "./upload.ts";

export interface Host extends HTMLElement {
  headers: HeaderSource | undefined;
}

export class Settings {
  readonly numbers: Numbers;
  readonly #host: Host;
  readonly #input: HTMLInputElement;
  readonly #messages: Messages;

  constructor(host: Host, parts: Parts) {
    this.#host = host;
    this.#input = parts.input;
    this.#messages = parseMessages(this.get("messages"));
    this.numbers = new Numbers(host.closest("[lang]")?.getAttribute("lang") ?? "");
  }

  get(attribute: string): string {
    return this.#host.getAttribute(attribute) ?? "";
  }

  text(key: string, values: Values = {}): string {
    return format(this.#messages, key, values);
  }

  get isTus(): boolean {
    return this.get("transport") !== "signed";
  }

  /** Bytes, or `NaN` or 0 for no limit. */
  get maxSize(): number {
    return Number(this.get("max-size"));
  }

  get autostart(): boolean {
    return this.get("autostart") !== "false";
  }

  get preview(): boolean {
    return this.get("preview") !== "none";
  }

  get endpoint(): string {
    return new URL(this.get("endpoint"), document.baseURI).href;
  }

  /** This field on this page, for what the browser remembers. */
  get place(): string {
    return buildPlace(this.endpoint, this.get("field-id"), location.pathname, this.#input.name);
  }

  /** The page's headers for a request to `url`. */
  readonly headersFor = (url: string): Promise<Record<string, string>> => {
    return buildHeaders(url, this.endpoint, this.#token, this.#host.headers);
  };

  /** For a new upload of this field. */
  get upload(): AsyncUploadOptions {
    return {
      endpoint: this.endpoint,
      fieldId: this.get("field-id"),
      instanceId: this.get("instance-id"),
      transport: this.isTus ? "tus" : "signed",
      chunkSize: Number(this.get("chunk-size")),
      headers: () => {
        const { headers } = this.#host;
        return typeof headers === "function" ? headers() : (headers ?? {});
      },
      csrf: this.#token,
      place: this.place,
    };
  }

  get #token(): TokenSource {
    return {
      cookie: this.get("csrf-cookie") || "csrftoken",
      header: this.get("csrf-header") || "X-CSRFToken",
      form: () => this.#input.form,
    };
  }
}
