/** The three small requests that are not part of moving bytes. None of them ever rejects. */

const TUS = { "Tus-Resumable": "1.0.0" };

type Headers = (url: string) => Promise<Record<string, string>>;

/** What the server says about an upload: its offset and length, "gone", or `null` when it could not be asked. */
export async function askOffset(url: string, headers: Headers): Promise<{ offset: number; length: number } | "gone" | null> {
  try {
    const response = await fetch(url, { method: "HEAD", cache: "no-store", headers: { ...TUS, ...(await headers(url)) } });
    if ([403, 404, 410].includes(response.status)) return "gone";
    if (!response.ok) return null;
    const offset = Number(response.headers.get("Upload-Offset") ?? NaN);
    const length = Number(response.headers.get("Upload-Length") ?? NaN);
    return Number.isNaN(offset) ? null : { offset, length };
  } catch {
    return null;
  }
}

/** Throws an upload away; tries again while the server is still busy with it. */
export async function deleteUpload(url: string, headers: Headers): Promise<void> {
  for (const delay of [0, 500, 2000]) {
    if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
    try {
      const response = await fetch(url, {
        method: "DELETE",
        keepalive: true,
        headers: { ...TUS, ...(await headers(url)) },
      });
      if (response.status !== 423 && response.status !== 409 && response.status < 500) return;
    } catch {
      // Its expiry on the server does the rest.
    }
  }
}

/** Whether anything answers at `url`; `navigator.onLine` can lie in both directions. */
export async function isReachable(url: string): Promise<boolean> {
  try {
    await fetch(url, { method: "HEAD", mode: "no-cors", cache: "no-store", credentials: "omit" });
    return true;
  } catch {
    return false;
  }
}
