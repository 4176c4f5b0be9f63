import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { load } from "./load.mjs";

const { SignedEngine } = await load("engine-signed");
const { readCloudError } = await load("cloud-errors");
const { decide, messageKey } = await load("retry");

const ENDPOINT = "/uploads/generate-upload-url/";
const S3 = {
  url: "https://bucket.example/",
  method: "POST",
  provider: "s3",
  fields: { key: "async-temp-files/a.bin", "Content-Type": "video/mp4", policy: "p" },
  fileFieldName: "file",
};
const AZURE = {
  url: "https://account.example/container/a.bin?sig=s",
  method: "PUT",
  provider: "azure",
  headers: { "x-ms-blob-type": "BlockBlob" },
};
const FILE = new File([new Uint8Array(100)], "a.bin", { type: "video/mp4" });
const CALM = { online: true, attempt: 0, canShrink: false, restarted: false, tokenRetried: false };

/** A browser's request whose answer the test gives. */
class FakeRequest {
  static all = [];
  upload = {};
  headers = {};
  status = 0;
  responseText = "";
  isAborted = false;
  constructor() {
    FakeRequest.all.push(this);
  }
  open(method, url) {
    Object.assign(this, { method, url });
  }
  setRequestHeader(name, value) {
    this.headers[name] = value;
  }
  getResponseHeader() {
    return null;
  }
  send(body) {
    this.body = body;
  }
  abort() {
    this.isAborted = true;
    this.onabort?.();
    this.onloadend?.();
  }
  answer(status, text = "") {
    Object.assign(this, { status, responseText: text });
    this.onload();
    this.onloadend();
  }
  lose() {
    this.onerror("lost");
    this.onloadend();
  }
}
globalThis.XMLHttpRequest = FakeRequest;

const settle = () => new Promise((resolve) => setTimeout(resolve, 0));

function makeEngine() {
  const seen = { progress: [], done: [], failed: [] };
  const engine = new SignedEngine({
    file: FILE,
    endpoint: ENDPOINT,
    fieldId: "talks.Talk.video",
    instanceId: "",
    patience: () => 60_000,
    headers: async (url) => (url === ENDPOINT ? { "X-CSRFToken": "t" } : {}),
  });
  engine.callbacks = {
    progress: (loaded) => seen.progress.push(loaded),
    done: (key) => seen.done.push(key),
    failed: (failure) => seen.failed.push(failure),
  };
  return { engine, seen };
}

/** Start an engine, answer its question, and return the request that carries the file. */
async function begin(engine, uploadUrl) {
  engine.start();
  await settle();
  FakeRequest.all.at(-1).answer(200, JSON.stringify({ key: "the-key", uploadUrl }));
  await settle();
  return FakeRequest.all.at(-1);
}

beforeEach(() => {
  FakeRequest.all = [];
});

test("S3 is sent a form: the fields that were signed, then the file; nothing of the page goes along", async () => {
  const { engine, seen } = makeEngine();
  const request = await begin(engine, S3);
  const [question] = FakeRequest.all;
  assert.equal(question.headers["X-CSRFToken"], "t");
  assert.deepEqual(JSON.parse(question.body), {
    fieldId: "talks.Talk.video", filename: "a.bin", size: 100, contentType: "video/mp4",
  });
  assert.deepEqual([request.method, request.url, request.headers], ["POST", S3.url, {}]);
  assert.deepEqual([...request.body.keys()], [...Object.keys(S3.fields), "file"]);
  request.answer(204);
  await settle();
  assert.deepEqual([seen.done, seen.failed], [["the-key"], []]);
});

test("Azure is sent the file itself, with the headers that were asked for", async () => {
  const { engine, seen } = makeEngine();
  const request = await begin(engine, AZURE);
  assert.deepEqual([request.method, request.url, request.headers], ["PUT", AZURE.url, AZURE.headers]);
  assert.equal(request.body, FILE);
  request.answer(201);
  await settle();
  assert.deepEqual(seen.done, ["the-key"]);
});

test("progress is told in bytes of the file, whatever the form adds", async () => {
  const { engine, seen } = makeEngine();
  const request = await begin(engine, S3);
  request.upload.onprogress({ loaded: 250, total: 500 });
  request.upload.onprogress({ loaded: 500, total: 500 });
  assert.deepEqual(seen.progress, [50, 100]);
  engine.abort();
});

test("after a lost connection the whole file goes again, to the same address without another question", async () => {
  const { engine, seen } = makeEngine();
  (await begin(engine, S3)).lose();
  await settle();
  assert.deepEqual(seen.failed.map(({ phase, status }) => [phase, status]), [["send", 0]]);
  assert.equal(decide(seen.failed[0], CALM).act, "wait");
  engine.start();
  await settle();
  assert.equal(FakeRequest.all.length, 3);
  const again = FakeRequest.all.at(-1);
  assert.deepEqual([again.url, again.body.get("file").size], [S3.url, 100]);
  again.answer(204);
  await settle();
  assert.deepEqual(seen.done, ["the-key"]);
});

for (const [name, uploadUrl, status, code] of [
  ["S3: the policy has expired", S3, 403, "AccessDenied"],
  ["S3: the credentials have expired", S3, 400, "ExpiredToken"],
  ["Azure: the signature has expired", AZURE, 403, "AuthenticationFailed"],
]) {
  test(`an address that is refused is asked for anew (${name})`, async () => {
    const { engine, seen } = makeEngine();
    (await begin(engine, uploadUrl)).answer(status, `<?xml version="1.0"?><Error><Code>${code}</Code></Error>`);
    await settle();
    assert.equal(seen.failed[0].code, code);
    assert.equal(decide(seen.failed[0], CALM).act, "token");
    await begin(engine, { ...uploadUrl, url: "https://new.example/" });
    assert.equal(FakeRequest.all.at(-1).url, "https://new.example/");
    engine.abort();
  });
}

test("a file that the policy finds too large fails for good, and says so", async () => {
  const { engine, seen } = makeEngine();
  (await begin(engine, S3)).answer(400, "<Error><Code>EntityTooLarge</Code><Message>...</Message></Error>");
  await settle();
  assert.deepEqual(decide(seen.failed[0], CALM), { act: "fail", canRetry: false });
  assert.equal(messageKey(seen.failed[0].status), "error_too_large");
});

test("S3 giving up on a slow connection is a reason to try again", async () => {
  const { engine, seen } = makeEngine();
  (await begin(engine, S3)).answer(400, "<Error><Code>RequestTimeout</Code></Error>");
  await settle();
  assert.equal(decide(seen.failed[0], CALM).act, "wait");
});

test("what the server says of the question is the user's text", async () => {
  const { engine, seen } = makeEngine();
  engine.start();
  await settle();
  FakeRequest.all.at(-1).answer(413, JSON.stringify({ error: "At most 5 MB.", code: "too_large" }));
  await settle();
  assert.deepEqual([seen.failed[0].phase, seen.failed[0].text, seen.failed[0].code], ["create", "At most 5 MB.", "too_large"]);
});

test("after a cancellation nothing is told any more, whatever still comes", async () => {
  const { engine, seen } = makeEngine();
  const request = await begin(engine, S3);
  await engine.terminate();
  assert.ok(request.isAborted);
  await settle();
  assert.deepEqual([seen.done, seen.failed], [[], []]);
});

test("a cancellation before the address is known sends no file", async () => {
  const { engine, seen } = makeEngine();
  engine.start();
  engine.abort();
  await settle();
  assert.equal(FakeRequest.all.length, 0);
  assert.deepEqual([seen.done, seen.failed], [[], []]);
});

test("an answer that is no error document keeps its status", () => {
  assert.deepEqual(readCloudError(403, ""), { status: 403, code: "" });
  assert.deepEqual(readCloudError(400, "<Code>constructor</Code>"), { status: 400, code: "constructor" });
  assert.deepEqual(readCloudError(502, '{"error": "x"}'), { status: 502, code: "" });
});
