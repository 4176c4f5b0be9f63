/**
 * The headers that requests get from the page: the CSRF token and the application's own.
 *
 * The token is read afresh for every request, as it changes at login and lives in three places. Neither token nor own
 * headers ever go to another origin than the one they are meant for.
 */

export type HeaderSource = Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);

export interface TokenSource {
  cookie: string;
  header: string;
  form(): HTMLFormElement | null;
}

/** The value of a cookie, or "". */
export function readCookie(cookies: string, name: string): string {
  for (const part of cookies.split(";")) {
    const [key, ...rest] = part.split("=");
    if (key?.trim() !== name) continue;
    const value = rest.join("=").trim();
    try {
      return decodeURIComponent(value);
    } catch {
      return value;
    }
  }
  return "";
}

/** The CSRF token of now: from the form, then any form of the page's cookie, then the meta element. */
export function readToken(source: TokenSource): string {
  const selector = "input[name=csrfmiddlewaretoken]";
  return (
    source.form()?.querySelector<HTMLInputElement>(selector)?.value ||
    readCookie(document.cookie, source.cookie) ||
    document.querySelector<HTMLMetaElement>("meta[name=csrf-token]")?.content ||
    document.querySelector<HTMLInputElement>(selector)?.value ||
    ""
  );
}

const originOf = (url: string): string => new URL(url, document.baseURI).origin;

/** The headers for a request to `url`, where `endpoint` is what the page configured. */
export async function buildHeaders(
  url: string,
  endpoint: string,
  token: TokenSource,
  own: HeaderSource | undefined,
): Promise<Record<string, string>> {
  const headers: Record<string, string> = {};
  const origin = originOf(url);
  if (origin === location.origin) {
    const value = readToken(token);
    if (value) headers[token.header] = value;
  }
  if (own && origin === originOf(endpoint)) {
    Object.assign(headers, typeof own === "function" ? await own() : own);
  }
  return headers;
}
