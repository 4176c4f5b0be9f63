import assert from "node:assert/strict";
import { test } from "node:test";
import { makeFile, network, until, waitForState } from "./browser.mjs";
import {
  choose, diskFile, element, hiddenValue, MB, open, options, page, posted, press, requests, save, site, startSlowly, submitted,
} from "./fixture.mjs";
import { field, htmlPage } from "./server.mjs";

test("a second tab with the same file makes an upload of its own", options, async () => {
  const path = diskFile(6 * MB);
  await startSlowly(path);
  const other = await page.context().newPage();
  await other.goto(`${site.url}/add`);
  assert.equal(await element("doc", other).getAttribute("state"), "idle");
  await choose(path, "doc", other);
  await waitForState(element("doc", other), "done");
  await network(page);
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 2);
  assert.ok(site.log.every(({ status }) => status === undefined || status < 400));
});

test("an interrupted upload can be discarded, and another file replaces it", options, async () => {
  page.on("dialog", (dialog) => dialog.accept());
  for (const replace of [false, true]) {
    site.log.length = 0;
    await startSlowly(diskFile(6 * MB));
    await page.reload();
    await waitForState(element(), "resumable");
    await network(page);
    if (replace) await choose(makeFile(1000, "other.bin"));
    else await press("discard");
    await waitForState(element(), replace ? "done" : "idle");
    await until(() => requests("DELETE").length === 1, "the DELETE");
    assert.equal(await page.evaluate(() => localStorage.length), 0);
  }
});

test("autostart=false waits for start(), and sending the form starts", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc", { upload: { autostart: "false" } })]);
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "paused");
  assert.match(await element().innerText(), /Ready to upload, 1,000 bytes/);
  assert.equal(site.log.length, 0);
  await save();
  await submitted();
  assert.match(posted().doc, /"key":"async/);
});

test("an upload that fails while the form waits drops the submission and takes the focus", options, async () => {
  await startSlowly();
  await save();
  site.rules.refuse = ({ method }) => method === "PATCH" && { status: 400, body: '{"error": "Not this one."}' };
  await waitForState(element(), "error");
  assert.equal(await page.locator("form").getAttribute("data-async-upload-waiting"), null);
  assert.match(await page.getByRole("alert").innerText(), /Not this one/);
  assert.equal(await page.locator("input[type=file]:focus").count(), 1);
  assert.equal(site.posts.length, 0);
  assert.deepEqual(JSON.parse(await hiddenValue()), { key: "", name: "movie.bin", width: null, height: null, error: "Not this one." });
  await press("cancel");
  await save();
  await submitted();
  assert.equal(posted().doc, "");
});

test("a script can have the form sent without waiting", options, async () => {
  await startSlowly();
  await page.evaluate(() => document.addEventListener("async-upload:submit-wait", (event) => event.preventDefault()));
  await save();
  await submitted();
  assert.equal(posted().doc, "");
});

test("leaving the page asks only while an upload is under way", options, async () => {
  const asked = [];
  page.on("dialog", (dialog) => {
    asked.push(dialog.type());
    return dialog.accept();
  });
  await startSlowly();
  await page.reload();
  assert.deepEqual(asked, ["beforeunload"]);
  await page.reload();
  assert.equal(asked.length, 1);
});

test("a cut connection is retried from the server's offset and the attempts are shown", options, async () => {
  let cuts = 0;
  await startSlowly();
  await page.evaluate(() => {
    window.seen = [];
    document.addEventListener("async-upload:statechange", ({ detail, target }) => window.seen.push(detail.to, target.innerText));
  });
  // The browser itself repeats a request once when a kept connection turns out to be closed.
  site.rules.refuse = ({ method }) => (method === "PATCH" || method === "HEAD") && ++cuts <= 3 && { cut: true };
  await until(() => cuts > 3, "the cuts");
  await network(page);
  await waitForState(element(), "done");
  const [state, text] = await page.evaluate(() => window.seen);
  assert.equal(state, "retrying");
  assert.match(text, /Connection lost, trying again \(1\)/);
  assert.equal(requests("POST").length, 1);
});

test("a failed upload goes on after Try again, with the focus on Pause", options, async () => {
  await startSlowly();
  site.rules.refuse = ({ method }) => method !== "POST" && { status: 403 };
  await waitForState(element(), "error");
  assert.match(await page.getByRole("alert").innerText(), /not allowed/);
  delete site.rules.refuse;
  await page.locator("button[data-action=retry]").focus();
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("button[data-action=pause]:focus").count(), 1);
  await waitForState(element(), "done");
});

test("events tell the whole story", options, async () => {
  await open();
  await page.evaluate(() => {
    window.story = [];
    const types = ["select", "start", "progress", "statechange", "complete", "clear", "error"];
    for (const type of types) {
      document.addEventListener(`async-upload:${type}`, ({ detail, target }) => {
        window.story.push([type, target.localName, detail.file?.name ?? null, detail.state, detail.value?.name ?? null, detail.to ?? null]);
      });
    }
    document.querySelector("async-upload").addEventListener("change", (event) => {
      if (event.target.localName === "async-upload") window.story.push(["change", event.target.value?.name ?? null]);
    });
  });
  await choose(makeFile(1000, "a.bin"));
  await waitForState(element(), "done");
  await press("remove");
  const story = await page.evaluate(() => window.story);
  assert.deepEqual(story.filter(([type]) => type !== "progress"), [
    ["select", "async-upload", "a.bin", "idle", null, null],
    ["statechange", "async-upload", "a.bin", "uploading", null, "uploading"],
    ["start", "async-upload", "a.bin", "uploading", null, null],
    ["statechange", "async-upload", "a.bin", "done", "a.bin", "done"],
    ["change", "a.bin"],
    ["complete", "async-upload", "a.bin", "done", "a.bin", null],
    ["change", null],
    ["statechange", "async-upload", null, "idle", null, "idle"],
    ["clear", "async-upload", null, "idle", null, null],
  ]);
});

test("scripts can upload without an element, wait for a form, and set a value", options, async () => {
  await open();
  const result = await page.evaluate(async () => {
    const { AsyncUpload, AsyncUploadElement, whenSettled } = await import("/static/async-uploads.esm.js");
    const value = await new AsyncUpload(new File(["abc"], "a.txt"), { endpoint: "/tus/", fieldId: "f" }).start();
    const field = document.querySelector("async-upload");
    field.select(new File(["abcd"], "b.txt"));
    const [settled] = await whenSettled(document.forms[0]);
    field.value = { key: "k", name: "c.txt" };
    return { value, settled, set: field.value, state: field.state, defined: customElements.get("async-upload") !== AsyncUploadElement };
  });
  assert.match(result.value.key, /^async-temp-files/);
  assert.equal(result.settled.name, "b.txt");
  assert.deepEqual(result.set, { key: "k", name: "c.txt", width: null, height: null, error: null });
  assert.equal(result.state, "done");
  assert.ok(result.defined, "the second copy of the script leaves the first one's element alone");
});

test("another origin gets no token, and the id of the URL is the key", options, async () => {
  const endpoint = `${site.url.replace("127.0.0.1", "localhost")}/tus/`;
  site.pages["/add"] = () => htmlPage([field("doc", { upload: { endpoint } })]);
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  assert.ok(site.log.every(({ csrf }) => csrf === undefined));
  assert.match(JSON.parse(await hiddenValue()).key, /^[0-9a-f]+$/);
});

test("another origin that refuses is explained on the console, once", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc", { upload: { endpoint: "http://localhost:9/tus/" } })]);
  await open();
  await choose(makeFile(1000));
  await until(() => page.problems.some((text) => text.includes("CORS_EXPOSE_HEADERS")), "the hint");
  await press("cancel");
  await choose(makeFile(1000));
  await waitForState(element(), "retrying");
  assert.equal(page.problems.filter((text) => text.includes("CORS_EXPOSE_HEADERS")).length, 1);
});

test("a required input is satisfied by a value and asks again after clearing", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc", { attrs: { required: true } })]);
  await open();
  const required = () => page.locator("input[type=file]").getAttribute("required");
  assert.equal(await required(), "");
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  assert.equal(await required(), null);
  await press("remove");
  assert.equal(await required(), "");
});

test("attributes that a script writes back are followed: required waits, the description is completed", options, async () => {
  const attrs = { required: true, "aria-describedby": "help" };
  site.pages["/add"] = () => htmlPage([field("doc", { attrs, upload: { value: '{"key": "k", "name": "a.txt"}' } })]);
  await open();
  const input = page.locator("input[type=file]");
  // As htmx 4 does after a swap, with every element that has an id.
  await input.evaluate((element) => {
    element.setAttribute("required", "");
    element.setAttribute("aria-describedby", "help");
  });
  await until(async () => (await input.getAttribute("required")) === null, "required to go");
  assert.equal(await input.getAttribute("aria-describedby"), "help id_doc-async-status id_doc-async-error");
  await press("remove");
  assert.equal(await input.getAttribute("required"), "");
  await input.evaluate((element) => element.removeAttribute("required"));
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  await press("remove");
  assert.equal(await input.getAttribute("required"), null);
});

test("a disabled field takes nothing and posts nothing", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc", { attrs: { disabled: true }, upload: { value: '{"key": "k", "name": "a.txt"}' } })]);
  await open();
  assert.equal(await page.evaluate(() => document.querySelector("async-upload").select(new File(["a"], "b.txt"))), false);
  assert.equal(await page.locator("button[data-action=remove]:visible").count(), 0);
  await save();
  await submitted();
  assert.ok(!("doc" in posted()));
});

test("a copy of a field in use starts empty, and a renamed one posts under its new name", options, async () => {
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  await page.evaluate(() => {
    const old = document.querySelector("async-upload");
    const copy = old.cloneNode(true);
    copy.querySelector("input[type=file]").name = "copy";
    old.after(copy);
    old.querySelector("input[type=file]").name = "form-3-doc";
  });
  await waitForState(element("copy"), "idle");
  await save();
  await submitted();
  assert.match(posted()["form-3-doc"], /movie\.bin/);
  assert.equal(posted().copy, "");
  assert.ok(!("doc" in posted()));
});

test("an image shows a preview and sends its dimensions as a hint", options, async () => {
  const png = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAGCAIAAAB1kpiRAAAAEUlEQVR4nGMwnpmGBzEMXmkABCRHuftfQcAAAAAASUVORK5CYII=";
  await open();
  await choose({ name: "a.png", mimeType: "image/png", buffer: Buffer.from(png, "base64") });
  await waitForState(element(), "done");
  const { width, height } = JSON.parse(await hiddenValue());
  assert.deepEqual([width, height], [10, 6]);
  await page.locator("img[data-part=preview]:visible").waitFor();
  assert.deepEqual(page.problems, []);
});
