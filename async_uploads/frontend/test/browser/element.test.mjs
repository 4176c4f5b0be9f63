import assert from "node:assert/strict";
import { test } from "node:test";
import { makeFile, network, until, waitForState } from "./browser.mjs";
import {
  choose, diskFile, element, hiddenValue, MB, open, options, page, posted, press, requests, save, site, startSlowly, submitted,
} from "./fixture.mjs";
import { field, htmlPage } from "./server.mjs";

test("a chosen file is uploaded at once and its key is posted without the file", options, async () => {
  await open();
  await choose(diskFile(3 * MB));
  await waitForState(element(), "done");
  await save();
  await submitted();
  const id = requests("PATCH")[0].url.split("/").pop();
  assert.deepEqual(JSON.parse(posted().doc), { key: `async-temp-files/${id}`, name: "movie.bin", width: null, height: null, error: null });
  assert.equal(site.posts[0].filter(([name]) => name === "doc").length, 1);
  assert.equal(requests("POST")[0].csrf, "token-of-the-form");
  const { metadata } = requests("CREATED")[0];
  assert.deepEqual(metadata, { filename: "movie.bin", filetype: "application/octet-stream", field_id: "app.Model.doc" });
  assert.deepEqual(page.problems, []);
});

test("a server without our header gets its upload id as the key", options, async () => {
  site.rules.foreign = true;
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  const value = JSON.parse(await hiddenValue());
  assert.equal(value.key, requests("PATCH")[0].url.split("/").pop());
});

test("an empty file is uploaded", options, async () => {
  await open();
  await choose(makeFile(0, "empty.txt", "text/plain"));
  await waitForState(element(), "done");
});

test("sending the form waits for the upload and keeps the pressed button", options, async () => {
  await startSlowly(diskFile(3 * MB));
  await page.getByRole("button", { name: "Save and continue" }).click();
  assert.equal(await page.locator("form").getAttribute("data-async-upload-waiting"), "");
  assert.match(await page.locator("[data-part=live]").innerText(), /will be sent when the upload has finished/);
  assert.equal(site.posts.length, 0);
  await submitted();
  assert.equal(posted().action, "continue");
  assert.match(posted().doc, /"key":"async-temp-files/);
});

test("Escape and pause call the waiting off", options, async () => {
  await startSlowly();
  const form = page.locator("form");
  await save();
  await page.keyboard.press("Escape");
  assert.equal(await form.getAttribute("data-async-upload-waiting"), null);
  await save();
  await press("pause");
  assert.equal(await form.getAttribute("data-async-upload-waiting"), null);
  await save();
  assert.match(await page.getByRole("alert").innerText(), /paused/);
  assert.equal(site.posts.length, 0);
});

test("pause stops, resume goes on from the server's offset, and the focus follows", options, async () => {
  await startSlowly();
  await page.locator("button[data-action=pause]").focus();
  await page.keyboard.press("Enter");
  await waitForState(element(), "paused");
  assert.equal(await page.locator("button[data-action=resume]:focus").count(), 1);
  const before = requests("PATCH").length;
  await network(page);
  await page.waitForTimeout(300);
  assert.equal(requests("PATCH").length, before);
  await page.keyboard.press("Enter");
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 1);
  assert.ok(requests("PATCH")[before].offset > 0);
});

test("after a reload the same file goes on, another field's upload is not touched", options, async () => {
  const path = diskFile(6 * MB);
  await startSlowly(path);
  page.on("dialog", (dialog) => dialog.accept());
  const sent = requests("PATCH").at(-1).offset;
  await page.reload();
  await waitForState(element(), "resumable");
  assert.match(await element().innerText(), /The upload of movie\.bin stopped at \d+%/);
  site.log.length = 0;
  await network(page);
  await choose(path);
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 0);
  assert.ok(requests("PATCH")[0].offset >= sent && sent > 0);
});

test("a record that the server no longer knows is forgotten without a word", options, async () => {
  await startSlowly(diskFile(6 * MB));
  page.on("dialog", (dialog) => dialog.accept());
  site.rules.refuse = ({ method }) => method === "HEAD" && { status: 403 };
  await page.reload();
  await until(() => requests("HEAD").length, "the question");
  await page.waitForTimeout(200);
  assert.equal(await element().getAttribute("state"), "idle");
  assert.equal(await page.evaluate(() => localStorage.length), 0);
});

test("losing the network stops, its return goes on", options, async () => {
  await startSlowly();
  await network(page, { offline: true });
  await waitForState(element(), "offline");
  assert.match(await element().innerText(), /No network/);
  await network(page);
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 1);
});

test("cancel deletes the upload and empties the field", options, async () => {
  await startSlowly();
  await press("cancel");
  await waitForState(element(), "idle");
  await until(() => requests("DELETE").some((entry) => entry.status === 204), "the DELETE");
  assert.equal(await page.locator("input[type=file]").inputValue(), "");
  assert.equal(await page.locator("input[type=file]:focus").count(), 1);
  assert.equal(await page.evaluate(() => localStorage.length), 0);
});

test("a finished file outlives a reload, and is forgotten once it was sent", options, async () => {
  await open();
  await choose(makeFile(2000, "report.pdf", "application/pdf"));
  await waitForState(element(), "done");
  await page.reload();
  await waitForState(element(), "done");
  assert.match(await element().innerText(), /report\.pdf/);
  await save();
  await submitted();
  assert.match(posted().doc, /"name":"report.pdf"/);
  await open();
  await page.waitForTimeout(200);
  assert.equal(await element().getAttribute("state"), "idle");
});

test("going back in the history resumes without the user doing anything", options, async () => {
  await startSlowly(diskFile(6 * MB));
  page.on("dialog", (dialog) => dialog.accept());
  await open("/done");
  await network(page);
  await page.goBack();
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 1);
});

test("a value given back by a failed validation is kept and posted again", options, async () => {
  site.pages["/done"] = (posted) =>
    posted?.some(([name, value]) => name === "title" && !value)
      ? htmlPage([field("doc", { attrs: { required: true }, upload: { value: JSON.stringify({ ...JSON.parse(Object.fromEntries(posted).doc), size: 2000, url: null }) } })])
      : "<title>done</title>";
  await open();
  await choose(makeFile(2000, "report.pdf", "application/pdf"));
  await waitForState(element(), "done");
  await save();
  await submitted();
  const first = posted().doc;
  await waitForState(element(), "done");
  assert.match(await element().innerText(), /report\.pdf[^]*Uploaded, 2 kB/);
  await page.getByLabel("Title").fill("x");
  await save();
  await until(() => site.posts.length === 2, "the second post");
  assert.deepEqual(JSON.parse(posted().doc).key, JSON.parse(first).key);
});

test("without the script the same markup posts the file", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc")], { script: false });
  await open();
  await choose(makeFile(2000));
  await save();
  await submitted();
  assert.deepEqual(posted().doc, { file: "movie.bin", size: 2000 });
  assert.equal(site.log.length, 0);
});

test("the same file in two fields makes two uploads, and FormData carries no file", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc"), field("copy")]);
  await open();
  const path = diskFile(1000);
  await choose(path);
  await choose(path, "copy");
  await waitForState(element("doc"), "done");
  await waitForState(element("copy"), "done");
  const entries = await page.evaluate(() => [...new FormData(document.forms[0])].map(([name, value]) => [name, typeof value === "string" ? value : "FILE"]));
  const keys = entries.filter(([name]) => name === "doc" || name === "copy").map(([, value]) => JSON.parse(value).key);
  assert.equal(new Set(keys).size, 2);
  assert.equal(keys.length, 2);
});

test("a body limit of a proxy makes the chunks smaller until they pass", options, async () => {
  site.rules.refuse = ({ method, length }) => method === "PATCH" && length > 600_000 && { status: 413 };
  await open();
  await choose(diskFile(9 * MB));
  await waitForState(element(), "done");
  const refused = requests("PATCH").filter((entry) => entry.status === 413);
  assert.deepEqual(refused.map((entry) => entry.length), [8388608, 2097152]);
});

test("an upload that vanished on the server begins again, once", options, async () => {
  await startSlowly(diskFile(4 * MB));
  site.rules.refuse = ({ method }) => method !== "POST" && requests("POST").length < 2 && { status: 404 };
  await network(page);
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 2);
});

test("a refused token is read again and tried once more", options, async () => {
  let refused = 0;
  site.rules.refuse = ({ method }) => method === "POST" && !refused++ && { status: 403, body: "CSRF" };
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  assert.equal(requests("POST").length, 2);
});

test("trouble of the server is retried, a refusal is shown in its own words", options, async () => {
  let broken = 2;
  site.rules.refuse = ({ method }) => method === "PATCH" && broken-- > 0 && { status: 503 };
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  await press("remove");
  site.rules.refuse = () => ({ status: 400, body: JSON.stringify({ error: "Only on Sundays.", code: "sunday" }) });
  await choose(makeFile(2000));
  await waitForState(element(), "error");
  assert.match(await page.getByRole("alert").innerText(), /Only on Sundays/);
  assert.equal(await page.locator("input[type=file]").getAttribute("aria-invalid"), "true");
  await save();
  assert.equal(await page.locator("input[type=file]:focus").count(), 1);
  assert.equal(site.posts.length, 0);
});

test("too large files and wrong types are refused before anything is sent", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc", { attrs: { accept: "image/*" }, upload: { max_size: 1000 } })]);
  await open();
  await choose(makeFile(2000, "a.png", "image/png"));
  await waitForState(element(), "error");
  assert.match(await page.getByRole("alert").innerText(), /a\.png is too large \(2 kB\)\. The limit is 1,000 bytes/);
  await choose(makeFile(20, "a.txt", "text/plain"));
  assert.match(await page.getByRole("alert").innerText(), /not of an allowed type/);
  assert.equal(site.log.length, 0);
});

test("a formset's empty row stays plain and upgrades when its name becomes concrete", options, async () => {
  site.pages["/add"] = () => htmlPage([field("form-__prefix__-doc")]);
  await open();
  const row = page.locator("async-upload");
  assert.equal(await row.getAttribute("state"), null);
  await page.evaluate(() => {
    const old = document.querySelector("async-upload");
    const copy = old.cloneNode(true);
    old.after(copy);
    for (const input of copy.querySelectorAll("[name]")) input.name = input.name.replace("__prefix__", "0");
    for (const input of copy.querySelectorAll("[id]")) input.id = input.id.replace("__prefix__", "0");
  });
  await choose(makeFile(1000), "form-0-doc");
  await waitForState(row.nth(1), "done");
  assert.equal(await row.nth(0).getAttribute("state"), null);
  const described = await row.nth(1).locator("input[type=file]").getAttribute("aria-describedby");
  assert.ok(described.includes("id_form-0-doc-async-error") && !described.includes("__prefix__"));
});

test("a field moved within the page goes on, one taken out keeps its record", options, async () => {
  await startSlowly();
  await page.evaluate(() => document.forms[0].append(document.querySelector("async-upload")));
  await page.waitForTimeout(100);
  assert.equal(await element().getAttribute("state"), "uploading");
  await page.evaluate(() => document.querySelector("async-upload").remove());
  await page.waitForTimeout(200);
  assert.equal(requests("DELETE").length, 0);
  assert.equal(await page.evaluate(() => localStorage.length), 1);
});

test("the saved file's clear checkbox becomes a button with undo", options, async () => {
  site.pages["/add"] = () => htmlPage([field("doc", { is_initial: true, value: "a.pdf" })]);
  await open();
  assert.equal(await page.getByRole("checkbox").count(), 0);
  await press("remove-saved");
  assert.equal(await page.locator("button[data-action=undo]:focus").count(), 1);
  await choose(makeFile(100));
  await waitForState(element(), "done");
  await save();
  await submitted();
  assert.equal(posted()["doc-clear"], undefined);
});

test("a reset clears", options, async () => {
  await open();
  await choose(makeFile(100));
  await waitForState(element(), "done");
  await page.getByRole("button", { name: "Reset" }).click();
  await waitForState(element(), "idle");
  assert.equal(await hiddenValue(), "");
});

test("a dropped file is taken, and scripts may refuse one", options, async () => {
  await open();
  const drop = (count) => page.evaluate((files) => {
    const dataTransfer = new DataTransfer();
    for (let at = 0; at < files; at += 1) dataTransfer.items.add(new File(["abc"], `drop${at}.txt`, { type: "text/plain" }));
    const target = document.querySelector("async-upload");
    for (const type of ["dragenter", "dragover", "drop"]) target.dispatchEvent(new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
  }, count);
  await drop(2);
  await waitForState(element(), "error");
  await drop(1);
  await waitForState(element(), "done");
  assert.match(await element().innerText(), /drop0\.txt/);
  await press("remove");
  await page.evaluate(() => document.addEventListener("async-upload:select", (event) => event.preventDefault()));
  await drop(1);
  assert.equal(await element().getAttribute("state"), "idle");
});

test("a signed upload asks for its URL by POST and sends the file there", options, async () => {
  const seen = [];
  site.rules.route = (request, response) => {
    if (!["/generate/", "/bucket"].includes(request.url)) return false;
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      seen.push({ url: request.url, method: request.method, body, csrf: request.headers["x-csrftoken"] });
      const uploadUrl = { url: "/bucket", method: "PUT", headers: { "x-ms-blob-type": "BlockBlob" } };
      response.writeHead(200).end(JSON.stringify({ key: "async-temp-files/signed.txt", uploadUrl }));
    });
    return true;
  };
  site.pages["/add"] = () => htmlPage([field("doc", { upload: { transport: "signed", endpoint: "/generate/", instance_id: "7" } })]);
  await open();
  await choose({ name: "signed.txt", mimeType: "text/plain", buffer: Buffer.from("hello") });
  await waitForState(element(), "done");
  assert.deepEqual(seen.map(({ method, url }) => `${method} ${url}`), ["POST /generate/", "PUT /bucket"]);
  assert.equal(JSON.parse(seen[0].body).instanceId, "7");
  assert.equal(seen[0].csrf, "token-of-the-form");
  assert.equal(seen[1].body, "hello");
  assert.equal(await page.evaluate(() => document.querySelector("async-upload").value.key), "async-temp-files/signed.txt");
});
