/** Chromium for the tests, and the few waits that need no `eval` in the page (its policy forbids it). */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chromium } from "playwright-core";

export function findChromium() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch {
      // the next name
    }
  }
  return null;
}

export const launch = (executablePath) =>
  chromium.launch({
    executablePath,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });

/** Waits until `check` gives something true, looking every 30 ms. */
export async function until(check, what, timeout = 10_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) assert.fail(`waited for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
}

/** Waits until the element is in one of the states, and says where it is when it never is. */
export async function waitForState(locator, ...states) {
  const look = async () => states.includes(await locator.getAttribute("state"));
  await until(look, `state ${states}`).catch(async (error) => {
    assert.fail(`${error.message}; it is ${await locator.getAttribute("state")}: ${await locator.innerText()}`);
  });
}

/** A file for `setInputFiles`, the same every time. */
export const makeFile = (size, name = "movie.bin", mimeType = "application/octet-stream") => {
  const buffer = Buffer.alloc(size);
  for (let at = 0; at < size; at += 1024) buffer.writeUInt32LE(at, at);
  return { name, mimeType, buffer };
};

/** Limits the upload speed to `bytes` per second (-1: no limit), or cuts the network. */
export async function network(page, { bytes = -1, offline = false } = {}) {
  const session = (page.cdpSession ??= await page.context().newCDPSession(page));
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", { offline, latency: 0, downloadThroughput: -1, uploadThroughput: bytes });
}
