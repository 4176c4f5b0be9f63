// The peer with Azure: @tus/server with @tus/azure-store, both with their defaults.
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const { BENCHMARK_AZURE, BENCHMARK_PORT, PACKAGES } = process.env;
const require = createRequire(path.join(PACKAGES, 'index.js'));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const { Server } = await load('@tus/server');
const { AzureStore } = await load('@tus/azure-store');
const { BlobServiceClient } = await load('@azure/storage-blob');
const client = BlobServiceClient.fromConnectionString(BENCHMARK_AZURE).getContainerClient('measured');
await client.createIfNotExists();
const server = new Server({ path: '/files', relativeLocation: true, datastore: new AzureStore({ client }) });

http.createServer((request, response) => server.handle(request, response)).listen(Number(BENCHMARK_PORT), '127.0.0.1');
