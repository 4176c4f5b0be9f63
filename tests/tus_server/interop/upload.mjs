// One upload with tus-js-client, told by JSON in the first argument; prints a line of JSON per event.
//
// {endpoint, file, url?, chunkSize?, options?, abortAfter?}: `options` goes to tus-js-client as it is; `abortAfter`
// aborts once so many bytes were sent. Events: {url}, {progress}, {aborted}, {error, status}, {done, requests}.
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { load } from './load.mjs';

const tus = await load('tus-js-client');
const plan = JSON.parse(process.argv[2]);
const print = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const requests = [];
const stream = plan.stream ?? false;
const open = () => {
  if (plan.inMemory) return readFileSync(plan.file);
  // The client looks at the file behind a file's stream and then declares more bytes than the last slice has.
  return stream ? createReadStream(plan.file).pipe(new PassThrough()) : createReadStream(plan.file);
};
const source = open();

const upload = new tus.Upload(source, {
  endpoint: plan.endpoint,
  uploadUrl: plan.url ?? null,
  chunkSize: plan.chunkSize ?? Number.POSITIVE_INFINITY,
  uploadSize: stream ? null : statSync(plan.file).size,
  retryDelays: plan.retryDelays ?? [100, 200, 500, 1000, 2000, 2000, 2000],
  metadata: { filename: 'отчёт 🎬.bin', filetype: 'application/octet-stream' },
  ...plan.options,
  onUploadUrlAvailable: () => print({ url: upload.url }),
  onBeforeRequest: (request) => {
    requests.push(request.getHeader('X-HTTP-Method-Override') ?? request.getMethod());
  },
  onProgress: (sent) => {
    if (plan.abortAfter && sent >= plan.abortAfter) {
      plan.abortAfter = null;
      upload.abort().then(() => print({ aborted: sent }));
    }
  },
  onError: (error) => {
    print({ error: String(error), status: error.originalResponse?.getStatus() ?? null });
    process.exitCode = 1;
  },
  onSuccess: () => print({ done: upload.url, requests }),
});
upload.start();
