// The peer: @tus/server with its file store, both with their defaults. PACKAGES names the directory they are installed in.
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const { BENCHMARK_DIRECTORY, BENCHMARK_PORT, PACKAGES } = process.env;
const require = createRequire(path.join(PACKAGES, 'index.js'));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const { Server } = await load('@tus/server');
const { FileStore } = await load('@tus/file-store');
const directory = path.join(BENCHMARK_DIRECTORY, 'files');
const server = new Server({ path: '/files', relativeLocation: true, datastore: new FileStore({ directory }) });

http.createServer((request, response) => server.handle(request, response)).listen(Number(BENCHMARK_PORT), '127.0.0.1');
