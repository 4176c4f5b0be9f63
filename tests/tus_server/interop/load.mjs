// Imports a package from the directory that NODE_PACKAGES names; ESM ignores NODE_PATH.
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(path.join(process.env.NODE_PACKAGES, 'index.js'));

export const load = async (name) => import(pathToFileURL(require.resolve(name)).href);
