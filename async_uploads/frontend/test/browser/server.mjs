/**
 * A small site for the browser tests: pages with rendered fields, a form target that shows what was posted, and the
 * reference tus server of the protocol's authors. Switches in `site.rules` make it misbehave.
 */

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileStore } from "@tus/file-store";
import { Server } from "@tus/server";
import { readTexts, render } from "./template.mjs";

const STATIC = new URL("../../../static/async_uploads/", import.meta.url);
const TYPES = { js: "text/javascript", css: "text/css" };
const CSP = "default-src 'self'; img-src 'self' blob:; connect-src 'self' http://localhost:*";
const texts = readTexts();

/** The context of one field, as the Django widget builds it. */
export function field(name, { attrs = {}, upload = {}, ...widget } = {}) {
  return {
    name,
    type: "file",
    attrs: { id: `id_${name}`, ...attrs },
    initial_text: "Currently",
    input_text: "Change",
    checkbox_name: `${name}-clear`,
    checkbox_id: `${name}-clear_id`,
    clear_checkbox_label: "Clear",
    ...widget,
    async_upload: {
      transport: "tus",
      endpoint: "/tus/",
      field_id: `app.Model.${name}`,
      max_size: 50_000_000,
      chunk_size: 8 * 1024 * 1024,
      csrf_cookie: "csrftoken",
      csrf_header: "X-CSRFToken",
      messages: JSON.stringify(texts.messages),
      labels: texts.labels,
      value: "",
      ...upload,
    },
  };
}

export async function startSite() {
  const directory = mkdtempSync(join(tmpdir(), "async-upload-"));
  const site = { log: [], posts: [], rules: {}, pages: {}, url: "", stop: () => {} };
  const tus = new Server({
    path: "/tus",
    relativeLocation: true,
    datastore: new FileStore({ directory }),
    async onUploadCreate(_request, upload) {
      site.log.push({ method: "CREATED", metadata: upload.metadata });
      return {};
    },
  });

  const handleTus = (request, response) => {
    const { method, headers } = request;
    const entry = { method, url: request.url, offset: Number(headers["upload-offset"] ?? 0), length: Number(headers["content-length"] ?? 0), csrf: headers["x-csrftoken"], at: Date.now() };
    site.log.push(entry);
    response.on("finish", () => {
      entry.status = response.statusCode;
    });
    const refuse = site.rules.refuse?.(entry);
    if (refuse?.cut) return request.socket.destroy();
    if (refuse?.delay) return setTimeout(() => response.destroyed || tus.handle(request, response), refuse.delay);
    if (refuse?.silent) return request.resume();
    if (refuse) {
      request.resume();
      response.writeHead(refuse.status, refuse.headers ?? {}).end(refuse.body ?? "");
      return;
    }
    const id = request.url.split("/").pop();
    if (id && !site.rules.foreign) response.setHeader("Async-Upload-Key", `async-temp-files/${id}`);
    tus.handle(request, response);
  };

  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://x");
    if (pathname.startsWith("/tus")) return handleTus(request, response);
    if (pathname.startsWith("/static/")) {
      const name = pathname.split("/").pop();
      response.writeHead(200, { "Content-Type": TYPES[name.split(".").pop()] });
      return response.end(readFileSync(new URL(name, STATIC)));
    }
    if (pathname === "/favicon.ico") return response.writeHead(204).end();
    if (site.rules.route?.(request, response)) return undefined;
    const chunks = [];
    request.on("data", (chunk) => chunks.push(chunk));
    request.on("end", async () => {
      let posted = null;
      if (request.method === "POST") {
        const body = new Response(Buffer.concat(chunks), { headers: { "Content-Type": request.headers["content-type"] } });
        posted = [...(await body.formData())].map(([name, value]) => [name, typeof value === "string" ? value : { file: value.name, size: value.size }]);
        site.posts.push(posted);
      }
      const page = site.pages[pathname];
      if (!page) return response.writeHead(404).end();
      response.writeHead(200, { "Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": CSP, "Cache-Control": "no-store" });
      return response.end(page(posted));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  site.url = `http://127.0.0.1:${server.address().port}`;
  site.stop = () => {
    server.closeAllConnections();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  };
  return site;
}

/** A page with one form. */
export function htmlPage(fields, { script = true, lang = "en", action = "/done", extra = "" } = {}) {
  return `<!doctype html><html lang="${lang}"><head><meta charset="utf-8"><title>Test</title>
<link rel="stylesheet" href="/static/async-uploads.css">${script ? '<script src="/static/async-uploads.js" defer></script>' : ""}</head><body>
<form method="post" action="${action}" enctype="multipart/form-data">
<input type="hidden" name="csrfmiddlewaretoken" value="token-of-the-form">
${fields.map((widget) => `<p><label for="${widget.attrs.id}">${widget.name}</label> ${render(widget)}</p>`).join("\n")}
<label>Title <input name="title"></label>
<button name="action" value="save">Save</button><button name="action" value="continue">Save and continue</button><button type="reset">Reset</button>
</form>${extra}</body></html>`;
}
