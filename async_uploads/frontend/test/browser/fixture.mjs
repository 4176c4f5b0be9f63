/** One browser and one site for a test file, a fresh context for each test. Importing it registers the hooks. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach } from "node:test";
import { findChromium, launch, makeFile, network, until } from "./browser.mjs";
import { field, htmlPage, startSite } from "./server.mjs";

const executable = findChromium();
export const options = { skip: executable ? false : "no Chromium on the PATH", timeout: 60_000 };
export const MB = 1_000_000;
export let site;
export let page;
let browser;
let files;

before(async () => {
  if (!executable) return;
  site = await startSite();
  browser = await launch(executable);
  files = mkdtempSync(join(tmpdir(), "async-upload-files-"));
});

after(async () => {
  await browser?.close();
  site?.stop();
  if (files) rmSync(files, { recursive: true });
});

beforeEach(async () => {
  if (!executable) return;
  await page?.context().close();
  page = await (await browser.newContext()).newPage();
  page.setDefaultTimeout(30_000);
  page.problems = [];
  page.on("console", (message) => message.type() !== "log" && page.problems.push(message.text()));
  page.on("pageerror", (error) => page.problems.push(String(error)));
  Object.assign(site, { log: [], posts: [], rules: {} });
  site.pages = {
    "/add": () => htmlPage([field("doc")]),
    "/done": (posted) => `<title>done</title><pre>${JSON.stringify(posted)}</pre>`,
  };
});

export const element = (name = "doc", on = page) =>
  on.locator("async-upload").filter({ has: on.locator(`input[type=file][name=${name}]`) });
export const choose = (file, name = "doc", on = page) => on.locator(`input[type=file][name=${name}]`).setInputFiles(file);
export const press = (action) => page.locator(`button[data-action=${action}]:visible`).click();
export const save = () => page.getByRole("button", { name: "Save", exact: true }).click();
export const requests = (method) => site.log.filter((entry) => entry.method === method);
export const open = (path = "/add") => page.goto(site.url + path);
export const posted = () => Object.fromEntries(site.posts.at(-1));
export const hiddenValue = () => page.locator("async-upload input[type=hidden]").inputValue();

export async function submitted() {
  await until(() => site.posts.length, "a post");
  await page.waitForURL("**/done");
}

/** A file on disk: its lastModified stays, so it is the same file after a reload. */
export function diskFile(size, name = "movie.bin") {
  const path = join(files, name);
  writeFileSync(path, makeFile(size).buffer);
  return path;
}

/** Opens a page and has an upload under way, slow enough to do something meanwhile. */
export async function startSlowly(file = diskFile(8 * MB), { upload = {}, ...widget } = {}) {
  site.pages["/add"] = () => htmlPage([field("doc", { upload: { chunk_size: 512 * 1024, ...upload }, ...widget })]);
  await open();
  await network(page, { bytes: 2 * MB });
  await choose(file);
  await until(() => requests("PATCH").length > 1, "a second chunk");
}
