/**
 * Builds the element into ../static/async_uploads/: `npm ci --ignore-scripts && npm run build`.
 *
 * Fails above the size budget (gzip): 24 KiB of script, 2 KiB of styles. The licence texts of everything bundled are
 * collected from esbuild's metafile, as its own "legal comments" miss packages without banner comments.
 */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = resolve(here, "../static/async_uploads");
const KIB = 1024;
const BUDGETS = { "async-uploads.js": 24 * KIB, "async-uploads.esm.js": 24 * KIB, "async-uploads.css": 2 * KIB };

const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  logLevel: "warning",
  // The sources of tus-js-client as they are written; its transpiled ones are 6 KiB larger for browsers long gone.
  alias: { "tus-js-client": "./node_modules/tus-js-client/lib/browser/index.js" },
};
const banner = { js: "/*! django-async-uploads; licences of what is bundled: THIRD_PARTY.txt */" };

mkdirSync(target, { recursive: true });
const results = await Promise.all([
  build({ ...common, banner, entryPoints: ["src/define.ts"], format: "iife", outfile: join(target, "async-uploads.js") }),
  build({ ...common, banner, entryPoints: ["src/index.ts"], format: "esm", outfile: join(target, "async-uploads.esm.js") }),
  build({ ...common, entryPoints: ["async-uploads.css"], outfile: join(target, "async-uploads.css") }),
]);
writeFileSync(join(target, "THIRD_PARTY.txt"), collectLicences(results));

let tooLarge = false;
for (const [name, budget] of Object.entries(BUDGETS)) {
  const size = gzipSync(readFileSync(join(target, name)), { level: 9 }).length;
  const over = size > budget;
  tooLarge ||= over;
  console.log(`${name}: ${(size / KIB).toFixed(1)} KiB gzip of ${budget / KIB}${over ? ", OVER BUDGET" : ""}`);
}
if (tooLarge) process.exitCode = 1;

/** The licence text of every package with a file in a bundle; a package without one fails the build. */
function collectLicences(built) {
  const packages = new Set();
  for (const { metafile } of built) {
    for (const output of Object.values(metafile.outputs)) {
      for (const [input, { bytesInOutput }] of Object.entries(output.inputs)) {
        const found = /^(?:.*\/)?(node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input);
        if (found && bytesInOutput > 0) packages.add(found[1]);
      }
    }
  }
  const texts = [...packages].sort().map((path) => {
    const { name, version } = JSON.parse(readFileSync(join(here, path, "package.json"), "utf8"));
    const file = readdirSync(join(here, path)).find((entry) => /^licen[cs]e/i.test(entry));
    if (!file || !existsSync(join(here, path, file))) throw new Error(`${name} has no licence file`);
    return `${name} ${version}\n\n${readFileSync(join(here, path, file), "utf8").trim()}\n`;
  });
  return `Packages bundled into async-uploads.js and async-uploads.esm.js\n\n${texts.join(`\n${"-".repeat(78)}\n\n`)}`;
}
