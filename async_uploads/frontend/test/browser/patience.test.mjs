import assert from "node:assert/strict";
import { test } from "node:test";
import { makeFile, until, waitForState } from "./browser.mjs";
import { choose, element, MB, open, options, page, press, requests, site, startSlowly } from "./fixture.mjs";
import { field, htmlPage } from "./server.mjs";

/** Uploads `size` bytes without an element; the states it went through, and how it ended. */
const uploadHeadless = (size, patience) =>
  page.evaluate(
    async ([length, limit]) => {
      const { AsyncUpload } = await import("/static/async-uploads.esm.js");
      const seen = [];
      const upload = new AsyncUpload(new File([new Uint8Array(length)], "a.bin"), {
        endpoint: "/tus/",
        fieldId: "f",
        chunkSize: 256 * 1024,
        patience: limit,
        onstate: ({ state }) => seen.at(-1) !== state && seen.push(state),
      });
      await upload.start();
      return seen;
    },
    [size, patience],
  );

test("refused requests wait by the delays although the offset moves meanwhile", options, async () => {
  await startSlowly();
  let refused = 0;
  const first = requests("PATCH").length;
  site.rules.refuse = ({ method }) => {
    const drained = String(1000 + refused);
    if (method === "PATCH" && refused < 3) return { status: 409, headers: { "Upload-Offset": String(refused++), "Tus-Resumable": "1.0.0" } };
    if (method !== "HEAD" || refused >= 3) return undefined;
    return { status: 200, headers: { "Upload-Offset": drained, "Upload-Length": String(8 * MB), "Tus-Resumable": "1.0.0" } };
  };
  await until(() => requests("PATCH").length >= first + 3, "the third refusal");
  const [, second, third] = requests("PATCH").slice(first).map(({ at }) => at);
  assert.ok(third - second >= 900, `${third - second} ms`);
  await press("cancel");
});

test("a request without progress and answer is given up and the upload goes on", options, async () => {
  await open();
  let silent = 0;
  site.rules.refuse = ({ method, offset }) => method === "PATCH" && offset && !silent++ && { silent: true };
  const seen = await uploadHeadless(MB, 300);
  assert.deepEqual(seen, ["uploading", "retrying", "uploading", "done"]);
  assert.equal(silent > 1, true);
  assert.equal(requests("POST").length, 1);
  assert.equal(requests("HEAD").length, 1);
});

test("a server that is only slow is interrupted a few times at first, and then left alone", options, async () => {
  await open();
  site.rules.refuse = ({ method }) => method === "PATCH" && { delay: 450 };
  const seen = await uploadHeadless(MB, 150);
  assert.equal(seen.at(-1), "done");
  const interrupted = requests("HEAD").length; // 150 and 300 ms were too short; 600 perhaps too, on a busy machine
  assert.ok(interrupted === 2 || interrupted === 3, `${interrupted}`);
});

test("removing a value that the server gave back deletes its upload", options, async () => {
  await open();
  await choose(makeFile(1000));
  await waitForState(element(), "done");
  const uploadUrl = requests("PATCH")[0].url;
  const value = JSON.stringify({ key: "k", name: "movie.bin", size: 1000, uploadUrl });
  site.pages["/again"] = () => htmlPage([field("again", { upload: { value } })]);
  await open("/again");
  await waitForState(element("again"), "done");
  await press("remove");
  await until(() => requests("DELETE").some(({ status }) => status === 204), "the DELETE");
  assert.equal(requests("DELETE")[0].url, uploadUrl);
  assert.equal(requests("DELETE")[0].csrf, "token-of-the-form");
});

for (const width of [1200, 900]) {
  test(`a table of fields stays within a page of ${width} px`, options, async () => {
    const [cell] = /<async-upload.*<\/async-upload>/s.exec(htmlPage([field("doc")]));
    const label = '<input style="width: 20em" name="label">';
    const extra = `<table><tr><td>${label}</td><td><p>Currently a file</p>${cell}</td><td><input type="checkbox"></td></tr></table>`;
    site.pages["/add"] = () => htmlPage([], { extra });
    await page.setViewportSize({ width, height: 700 });
    await open();
    await choose(makeFile(1000, `${"long-".repeat(20)}name.bin`));
    await waitForState(element(), "done");
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
    assert.ok((await element().boundingBox()).width >= 200);
  });
}
