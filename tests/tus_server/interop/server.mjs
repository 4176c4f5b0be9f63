// @tus/server with its file store, to try the conformance suite on a server that is not ours.
// Not part of the product; `node_modules` is the one in .build/node (see packages.py).
import http from 'node:http';
import path from 'node:path';
import { mkdirSync, appendFileSync } from 'node:fs';
import { load } from './load.mjs';

const { Server } = await load('@tus/server');
const { FileStore } = await load('@tus/file-store');
const directory = process.env.TEST_SERVER_DIRECTORY;

const endpoint = (name, options = {}, storeOptions = {}) => {
  const data = path.join(directory, 'files', name);
  mkdirSync(data, { recursive: true });
  return new Server({
    path: `/${name}`,
    relativeLocation: true,
    datastore: new FileStore({ directory: data, ...storeOptions }),
    onUploadFinish: async (_, upload) => {
      appendFileSync(path.join(directory, 'finished.log'), `${upload.id}\n`);
      return {};
    },
    ...options,
  });
};

const servers = {
  files: endpoint('files', {}, { expirationPeriodInMilliseconds: 3_600_000 }),
  limited: endpoint('limited', { maxSize: 1000 }),
  eternal: endpoint('eternal'),
};

http
  .createServer((request, response) => {
    const server = servers[request.url.split(/[/?]/)[1]];
    if (server) return server.handle(request, response);
    response.statusCode = request.url === '/health/' ? 200 : 404;
    response.end();
  })
  .listen(Number(process.env.TEST_SERVER_PORT), '127.0.0.1');
