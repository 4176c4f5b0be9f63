import assert from "node:assert/strict";
import { test } from "node:test";
import { readTexts } from "../browser/template.mjs";
import { load } from "./load.mjs";

const { isAccepted, isSmallEnough } = await load("accept");
const { format, parseMessages } = await load("messages");
const { Numbers } = await load("numbers");
const { Records, buildPlace, buildRecordId } = await load("records");
const { ACTIONS, isBusy, listActions, nextFocus } = await load("states");
const { buildValue, parseValue } = await load("value");
const { readCookie } = await load("headers");
const { isSameFile } = await load("recovery");

const ACCEPTED = [
  ["", "a.exe", "", true],
  ["image/*", "a.png", "image/png", true],
  ["image/*", "a.txt", "text/plain", false],
  ["image/png, application/pdf", "a.pdf", "application/pdf", true],
  ["image/png", "a.jpg", "image/jpeg", false],
  [".PDF", "Report.pdf", "", true],
  [".pdf", "a.pdf.exe", "application/x-msdownload", false],
  [".csv,text/csv", "a.csv", "application/vnd.ms-excel", true],
  ["image/*", "a.heic", "", true],
  ["*/*", "a", "x/y", true],
  ["text/html", "a.html", "text/html;charset=utf-8", true],
];
for (const [accept, name, type, expected] of ACCEPTED) {
  test(`accept="${accept}" ${expected ? "takes" : "refuses"} ${name} (${type})`, () => assert.equal(isAccepted(accept, name, type), expected));
}

test("no readable limit is no limit", () => {
  assert.deepEqual([0, Number.NaN, 10, 9].map((limit) => isSmallEnough(10, limit)), [true, true, true, false]);
});

test("placeholders are filled, unknown ones stay, missing texts show their key", () => {
  const messages = parseMessages('{"a": "{x} of {y} {x}", "b": 1}');
  assert.equal(format(messages, "a", { x: 1 }), "1 of {y} 1");
  assert.equal(format(messages, "b"), "b");
  assert.equal(format(messages, "a", { x: "$&", y: "{x}" }), "$& of {x} $&");
});

for (const text of [null, "", "{", "null", "[]", "3"]) {
  test(`messages=${text} counts as none`, () => assert.deepEqual(parseMessages(text), {}));
}

test("numbers speak the page's language", () => {
  const spaces = (text) => text.replace(/\s/g, " ");
  const english = new Numbers("en");
  assert.deepEqual([0, 1, 999, 1024, 1536, 123 * 1024, 5 * 1024 ** 3].map((bytes) => spaces(english.size(bytes))), [
    "0 bytes", "1 byte", "999 bytes", "1 kB", "1.5 kB", "123 kB", "5 GB",
  ]);
  assert.equal(spaces(new Numbers("de").percent(0.4567)), "45 %");
  assert.equal(english.percent(0.9999), "99%");
  assert.deepEqual([0.2, 59, 90, 7200, 9000].map((seconds) => spaces(english.duration(seconds))), ["1 sec", "59 sec", "2 min", "2 hr", "2.5 hr"]);
});

for (const lang of ["", "zh_hans", "not a language", "pt-BR"]) {
  test(`the language ${JSON.stringify(lang)} does not break numbers`, () => assert.ok(new Numbers(lang).percent(0.5)));
}

class FakeStorage {
  getItem(key) {
    return Object.hasOwn(this, key) ? this[key] : null;
  }
  setItem(key, value) {
    this[key] = value;
  }
  removeItem(key) {
    delete this[key];
  }
}
const file = (name, more = {}) => ({ name, type: "text/plain", size: 3, lastModified: 5, ...more });
const PLACE = buildPlace("https://x/tus/", "f", "/add/", "doc");

test("a record is found again for the same file in the same place only", () => {
  const storage = new FakeStorage();
  const records = new Records(() => storage);
  records.put(PLACE, file("a"), "/tus/1", 10, null, 0);
  assert.equal(records.get(buildRecordId(PLACE, file("a")), 1).url, "/tus/1");
  assert.equal(records.get(buildRecordId(buildPlace("https://x/tus/", "f", "/add/", "other"), file("a")), 1), null);
  for (const other of [{ size: 4 }, { lastModified: 6 }, { type: "" }]) {
    assert.equal(records.get(buildRecordId(PLACE, file("a", other)), 1), null);
  }
});

test("expired and broken records are dropped", () => {
  const storage = new FakeStorage();
  const records = new Records(() => storage);
  records.put(PLACE, file("a"), "/tus/1", 0, 100, 0);
  storage.setItem("async-upload:broken", "{");
  storage.setItem("async-upload:odd", '{"x": 1}');
  assert.equal(records.inPlace(PLACE, 99).length, 1);
  assert.equal(records.inPlace(PLACE, 100).length, 0);
  assert.deepEqual(Object.keys(storage), ["async-upload:broken"]);
});

test("at most twenty records are kept, the latest ones", () => {
  const storage = new FakeStorage();
  storage.setItem("unrelated", "1");
  const records = new Records(() => storage);
  for (let at = 0; at < 25; at += 1) records.put(PLACE, file(`f${at}`), "/u", 0, null, at);
  const names = records.inPlace(PLACE, 30).map(([, record]) => record.name);
  assert.equal(names.length, 20);
  assert.equal(names[0], "f24");
  assert.equal(names.at(-1), "f5");
  assert.equal(storage.unrelated, "1");
});

test("forbidden or full storage only means that nothing is remembered", () => {
  const forbidden = new Records(() => {
    throw new Error("SecurityError");
  });
  forbidden.put(PLACE, file("a"), "/u", 0, null, 0);
  forbidden.putFinished(PLACE, { key: "k" });
  forbidden.drop("x");
  assert.equal(forbidden.getFinished(PLACE), null);
  assert.deepEqual(forbidden.inPlace(PLACE, 0), []);
});

test("a finished value is kept per place", () => {
  const records = new Records(((storage) => () => storage)(new FakeStorage()));
  records.putFinished(PLACE, { key: "k" });
  assert.deepEqual(records.getFinished(PLACE), { key: "k" });
  records.dropFinished(PLACE);
  assert.equal(records.getFinished(PLACE), null);
});

test("the buttons of every state exist, retry and pause only where they help", () => {
  for (const state of ["idle", "resumable", "uploading", "retrying", "offline", "paused", "done", "error"]) {
    for (const action of listActions(state, true, true)) assert.ok(ACTIONS.includes(action));
  }
  assert.deepEqual(listActions("error", false, true), ["cancel"]);
  assert.deepEqual(listActions("uploading", true, false), ["cancel"]);
  assert.deepEqual(["uploading", "retrying", "offline", "paused", "done", "error", "idle", "resumable"].filter(isBusy), ["uploading", "retrying", "offline"]);
});

test("the focus follows a button that disappears", () => {
  assert.equal(nextFocus("pause", ["resume", "cancel"]), "resume");
  assert.equal(nextFocus("retry", ["pause", "cancel"]), "pause");
  assert.equal(nextFocus("pause", ["cancel"]), null);
  assert.equal(nextFocus("cancel", []), null);
});

test("a value needs a key, and only the documented members are posted", () => {
  for (const raw of [null, "", "{", "3", "null", { key: "" }, { name: "x" }, { key: "", error: "x" }]) assert.equal(parseValue(raw), null);
  const known = parseValue('{"key": "k", "name": "a.png", "width": 6, "height": "x", "size": 9, "url": "/p", "more": 1}');
  assert.deepEqual(known, { key: "k", name: "a.png", width: 6, height: null, error: null, size: 9, url: "/p", uploadUrl: null, type: "" });
  assert.deepEqual(buildValue(known), { key: "k", name: "a.png", width: 6, height: null, error: null });
});

test("cookies are found by their exact name", () => {
  const cookies = "xcsrftoken=no; csrftoken=a%3Db=; other=1; broken=%E0%A4%A";
  assert.deepEqual(["csrftoken", "token", "broken"].map((name) => readCookie(cookies, name)), ["a=b=", "", "%E0%A4%A"]);
});

test("the same file is the same in all that a page may know", () => {
  assert.ok(isSameFile(file("a"), { ...file("a"), url: "x" }));
  assert.ok(!isSameFile(file("a"), file("a", { lastModified: 6 })));
});

test("every message key that the script uses is in the Python catalogue, and the other way round", async () => {
  const { readdirSync, readFileSync } = await import("node:fs");
  const source = new URL("../../src/", import.meta.url);
  const code = readdirSync(source).map((name) => readFileSync(new URL(name, source), "utf8")).join("\n");
  const { messages, labels } = readTexts();
  const built = ACTIONS.map((action) => `${action}_name`);
  const unused = Object.keys(messages).filter((key) => !built.includes(key) && !new RegExp(`"${key}"|\\b${key}:`).test(code));
  assert.deepEqual(unused, []);
  const used = [...code.matchAll(/"((?:say|error|blocked|not|saved)_[a-z_]+)"/g)].map(([, key]) => key).filter((key) => key !== "error_");
  assert.deepEqual([...used, ...built, "waiting", "offline"].filter((key) => !messages[key]), []);
  for (const action of ACTIONS) assert.ok(messages[`${action}_name`].toLowerCase().includes(labels[action].toLowerCase()), `${action}: WCAG 2.5.3 label in name`);
});
