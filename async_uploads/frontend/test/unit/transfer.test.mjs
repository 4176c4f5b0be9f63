import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { load } from "./load.mjs";

const { ChunkPolicy, LARGEST_CHUNK, SMALLEST_CHUNK } = await load("chunks");
const { Attempts, DELAYS, decide, messageKey } = await load("retry");
const { Patience, SilenceWatch } = await load("patience");
const { parseErrorBody, parseRetryAfter } = await load("engine");
const { SpeedMeter } = await load("speed");
const { ProgressGate } = await load("announcer");

const MIB = 1024 * 1024;

test("fast chunks grow by powers of two up to 64 MiB, slow ones shrink back to the configured size", () => {
  const policy = new ChunkPolicy(8 * MIB);
  const sizes = [1, 1, 1, 1].map((milliseconds) => (policy.accepted(policy.size, milliseconds), policy.size / MIB));
  assert.deepEqual(sizes, [16, 32, 64, 64]);
  assert.equal(policy.size, LARGEST_CHUNK);
  for (let at = 0; at < 9; at += 1) policy.accepted(policy.size, 20_000);
  assert.equal(policy.size, 8 * MIB);
  policy.accepted(policy.size, 7000);
  assert.equal(policy.size, 8 * MIB);
});

test("a short last chunk does not change the size", () => {
  const policy = new ChunkPolicy(8 * MIB);
  policy.accepted(1000, 1);
  assert.equal(policy.size, 8 * MIB);
});

test("a refused size is quartered down to 256 KiB and never tried again", () => {
  const policy = new ChunkPolicy(8 * MIB);
  const sizes = [];
  while (policy.canShrink) {
    policy.refused();
    sizes.push(policy.size);
  }
  assert.deepEqual(sizes, [2 * MIB, MIB / 2, SMALLEST_CHUNK]);
  policy.accepted(policy.size, 1);
  assert.equal(policy.size, SMALLEST_CHUNK);
});

test("only two cuts in a row make chunks smaller, and good chunks bring them back", () => {
  const policy = new ChunkPolicy(MIB);
  policy.cut();
  policy.accepted(10, 1);
  policy.cut();
  assert.equal(policy.size, MIB);
  policy.cut();
  assert.equal(policy.size, MIB / 2);
  for (let at = 0; at < 9; at += 1) policy.cut();
  assert.equal(policy.size, SMALLEST_CHUNK);
  policy.accepted(policy.size, 1);
  assert.equal(policy.size, MIB / 2);
});

for (const base of [0, -1, Number.NaN, Number.POSITIVE_INFINITY, undefined]) {
  test(`a chunk size of ${base} means 8 MiB`, () => assert.equal(new ChunkPolicy(base).size, 8 * MIB));
}

const failure = (phase, status, more = {}) => ({ phase, status, silent: false, foreign: false, retryAfter: 0, text: "", code: "", cause: null, ...more });
const calm = { online: true, attempt: 0, canShrink: true, restarted: false, tokenRetried: false };

const DECISIONS = [
  ["send", 0, {}, {}, { act: "wait", seconds: 0 }],
  ["send", 0, {}, { attempt: 4 }, { act: "wait", seconds: 10 }],
  ["send", 0, {}, { attempt: 5 }, { act: "fail", canRetry: true }],
  ["send", 0, {}, { online: false, attempt: 5 }, { act: "offline" }],
  ["send", 503, {}, { online: false }, { act: "wait", seconds: 0 }],
  ["create", 429, { retryAfter: 30 }, {}, { act: "wait", seconds: 30 }],
  ["send", 409, {}, { attempt: 1 }, { act: "wait", seconds: 1 }],
  ["resume", 423, {}, { attempt: 2 }, { act: "wait", seconds: 3 }],
  ["send", 413, { foreign: true }, {}, { act: "shrink" }],
  ["send", 413, { foreign: true }, { canShrink: false }, { act: "fail", canRetry: false }],
  ["send", 413, {}, {}, { act: "fail", canRetry: false }],
  ["create", 413, { foreign: true }, {}, { act: "fail", canRetry: false }],
  ["resume", 404, {}, {}, { act: "restart" }],
  ["resume", 410, {}, {}, { act: "restart" }],
  ["resume", 403, {}, {}, { act: "restart" }],
  ["send", 404, {}, {}, { act: "restart" }],
  ["resume", 404, {}, { restarted: true }, { act: "fail", canRetry: true }],
  ["create", 404, {}, {}, { act: "fail", canRetry: true }],
  ["create", 403, {}, {}, { act: "token" }],
  ["create", 403, {}, { tokenRetried: true }, { act: "fail", canRetry: true }],
  ["resume", 401, {}, {}, { act: "token" }],
  ["create", 400, {}, {}, { act: "fail", canRetry: false }],
  ["create", 200, {}, {}, { act: "fail", canRetry: false }],
];
for (const [phase, status, more, situation, expected] of DECISIONS) {
  test(`${phase} ${status} ${JSON.stringify({ ...more, ...situation })} leads to ${JSON.stringify(expected)}`, () => {
    assert.deepEqual(decide(failure(phase, status, more), { ...calm, ...situation }), expected);
  });
}

test("only what the server took from us starts the delays again, and a moving offset keeps us from giving up", () => {
  const attempts = new Attempts();
  attempts.accepted(0);
  const waited = [];
  for (let offset = 100; offset < 800; offset += 100) {
    attempts.seen(offset); // an older request drains, and has ours refused
    waited.push(decide(failure("send", 409), { ...calm, attempt: attempts.count }).seconds);
    attempts.failed();
  }
  assert.deepEqual(waited, [0, 1, 3, 5, 10, 10, 10]);
  attempts.seen(700);
  assert.equal(decide(failure("send", 409), { ...calm, attempt: attempts.count }).act, "fail", "nothing moved any more");
  attempts.accepted(800);
  assert.equal(attempts.count, 0);
});

test("patience doubles each time it runs out, and nonsense means 30 s", () => {
  const patience = new Patience(1000);
  patience.ranOut();
  patience.ranOut();
  assert.equal(patience.limit, 4000);
  for (const limit of [undefined, 0, -1, Number.NaN]) assert.equal(new Patience(limit).limit, 30_000);
});

test("a request is silent without an answer and without progress, four times as long with the last byte sent", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  let silences = 0;
  const watch = new SilenceWatch(() => 1000, () => (silences += 1));
  watch.progress(5, 10); // nothing is on its way
  mock.timers.tick(5000);
  watch.begin();
  mock.timers.tick(999);
  watch.progress(1, 10);
  mock.timers.tick(999);
  watch.progress(1, 10); // the same again
  assert.equal(silences, 0);
  mock.timers.tick(1);
  assert.equal(silences, 1);
  watch.begin();
  watch.progress(10, 10);
  mock.timers.tick(3999);
  assert.equal(silences, 1);
  mock.timers.tick(1);
  assert.equal(silences, 2);
  watch.begin();
  watch.end();
  mock.timers.tick(5000);
  assert.equal(silences, 2);
  mock.timers.reset();
});

test("the delays are those of the specification", () => assert.deepEqual(DELAYS, [0, 1, 3, 5, 10]));

test("every failure has a message", () => {
  assert.deepEqual([0, 401, 403, 413, 500, 503, 400].map(messageKey), [
    "error_network", "error_forbidden", "error_forbidden", "error_too_large", "error_server", "error_server", "error_failed",
  ]);
});

const BODIES = [
  ['{"error": "Too large.", "code": "too_large"}', "Too large.", "too_large"],
  ['{"fieldId": ["This field is required."]}', "This field is required.", ""],
  ['{"detail": "Not found."}', "Not found.", ""],
  ["<html>413</html>", "", ""],
  ["", "", ""],
  ["null", "", ""],
  ["[]", "", ""],
  ['{"error": {"x": 1}}', "", ""],
];
for (const [body, text, code] of BODIES) {
  test(`the error body ${body} says ${JSON.stringify(text)}`, () => assert.deepEqual(parseErrorBody(body), { text, code }));
}

test("Retry-After is read as seconds or as a date, within an hour", () => {
  const now = Date.parse("2026-11-22T12:00:00Z");
  assert.deepEqual(
    ["5", "Sun, 22 Nov 2026 12:00:30 GMT", "Sun, 22 Nov 2026 11:00:00 GMT", "999999", "soon", "", null, undefined].map((value) => parseRetryAfter(value, now)),
    [5, 30, 0, 3600, 0, 0, 0, 0],
  );
});

test("speed is the mean of five seconds, and unknown in the first", () => {
  const meter = new SpeedMeter();
  meter.add(0, 0);
  meter.add(500, 500);
  assert.equal(meter.rate(900), null);
  for (let second = 1; second <= 10; second += 1) meter.add(1000 * second, 1000 * second);
  for (let second = 11; second <= 20; second += 1) meter.add(10_000 + 3000 * (second - 10), 1000 * second);
  assert.equal(meter.rate(20_000), 3000);
  assert.equal(meter.secondsLeft(70_000, 20_000), 10);
  assert.ok(meter.rate(30_000) < 3000, "it falls while nothing is sent");
});

test("going back to the server's offset starts the measurement again", () => {
  const meter = new SpeedMeter();
  meter.add(0, 0);
  meter.add(9000, 3000);
  meter.add(1000, 3500);
  assert.equal(meter.rate(4000), null);
});

test("progress is spoken every 25 % or 10 s, whichever is later", () => {
  const gate = new ProgressGate();
  gate.start(0, 0);
  assert.deepEqual(
    [[0.5, 5000], [0.5, 10_000], [0.7, 30_000], [0.76, 31_000], [0.99, 60_000]].map(([share, now]) => gate.isDue(share, now)),
    [false, true, false, true, false],
  );
});
