// The peer with S3: @tus/server with @tus/s3-store, both with their defaults, against the sink.
import http from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const { BENCHMARK_PORT, BENCHMARK_S3_ENDPOINT, PACKAGES } = process.env;
const require = createRequire(path.join(PACKAGES, 'index.js'));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);

const { Server } = await load('@tus/server');
const { S3Store } = await load('@tus/s3-store');
const datastore = new S3Store({
  s3ClientConfig: {
    bucket: 'bucket',
    region: 'us-east-1',
    endpoint: BENCHMARK_S3_ENDPOINT,
    forcePathStyle: true,
    credentials: { accessKeyId: 'measured', secretAccessKey: 'measured' },
  },
});
const server = new Server({ path: '/files', relativeLocation: true, datastore });

http.createServer((request, response) => server.handle(request, response)).listen(Number(BENCHMARK_PORT), '127.0.0.1');
