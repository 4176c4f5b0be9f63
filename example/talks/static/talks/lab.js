// The big file lab: what <async-upload> tells by its events beside what the server tells when asked.

const lab = document.getElementById("lab");
const field = document.querySelector("async-upload");
const token = () => document.querySelector("[name=csrfmiddlewaretoken]").value;
const shown = Object.fromEntries([...lab.querySelectorAll("[data-show]")].map((part) => [part.dataset.show, part]));
const buttons = Object.fromEntries([...lab.querySelectorAll("[data-trouble]")].map((button) => [button.dataset.trouble, button]));
const lang = document.documentElement.lang || "en";
const number = new Intl.NumberFormat(lang);
const percent = new Intl.NumberFormat(lang, { style: "percent", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(lang, { timeStyle: "medium" });
const moment = new Intl.DateTimeFormat(lang, { dateStyle: "medium", timeStyle: "short" });
const mebibytes = new Intl.NumberFormat(lang, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const bytes = (count) => `${number.format(count)} bytes`;
const mib = (count) => `${mebibytes.format(count / 1048576)} MiB`;
const share = (count, total) => (total ? `${mib(count)} of ${mib(total)} (${percent.format(count / total)})` : "–");

function log(text) {
  const entry = document.createElement("li");
  entry.textContent = `${clock.format(new Date())}  ${text}`;
  shown.log.prepend(entry);
  while (shown.log.children.length > 200) shown.log.lastChild.remove();
}

// ---- the browser's side

function paintBrowser() {
  const { state, progress } = field;
  shown.state.textContent = state ?? "plain file input";
  if (!progress) return;
  shown["browser-bar"].value = progress.total ? progress.loaded / progress.total : 0;
  shown.sent.textContent = share(progress.loaded, progress.total);
  shown.speed.textContent = progress.speed ? `${mib(progress.speed)}/s` : "–";
}

field.addEventListener("async-upload:start", ({ detail }) => {
  log(detail.resumed ? `browser: goes on at ${bytes(detail.offset)}` : "browser: begins");
});
field.addEventListener("async-upload:statechange", ({ detail }) => log(`browser: ${detail.from} → ${detail.to}`));
field.addEventListener("async-upload:error", ({ detail }) => log(`browser: error: ${detail.message}`));

// ---- the server's side

let before = null;

function describe(upload) {
  if (!upload) return "nothing yet";
  if (upload.isPromoted) return "in its permanent place";
  if (upload.isFinished) return "finished, waits for the form";
  return upload.isWritten ? "receiving" : "waiting";
}

function paintServer(answer) {
  const { upload } = answer;
  const state = answer.asleepFor ? `asleep for ${Math.ceil(answer.asleepFor)} s` : describe(upload);
  shown["server-state"].textContent = state;
  shown["server-bar"].value = upload?.length ? upload.offset / upload.length : 0;
  shown.stored.textContent = upload ? share(upload.offset, upload.length) : "–";
  shown.bodies.textContent = number.format(answer.bodies);
  shown.expires.textContent = upload?.expires ? moment.format(new Date(upload.expires)) : "–";
  shown.place.textContent = upload?.place ?? "–";
  const ahead = (field.progress?.loaded ?? 0) - (upload?.offset ?? 0);
  shown.ahead.textContent = field.busy && upload && ahead > 0 ? mib(ahead) : "–";
  buttons.slow.setAttribute("aria-pressed", String(answer.isSlow));
  if (upload?.key === before?.key && upload && before && upload.offset < before.offset) {
    log(`server: THE OFFSET WENT BACK from ${bytes(before.offset)} to ${bytes(upload.offset)}`);
  }
  if (upload && before?.isWritten !== upload.isWritten && !upload.isFinished) {
    log(`server: ${upload.isWritten ? "receives" : "stopped"} at ${bytes(upload.offset)}`);
  }
  if (upload?.isFinished && before?.key === upload.key && !before.isFinished) log(`server: finished, ${bytes(upload.offset)}`);
  before = upload;
}

let lost = false;

async function look() {
  if (!document.hidden) {
    try {
      const response = await fetch(lab.dataset.stateUrl);
      if (!response.ok) throw new Error(response.statusText);
      paintServer(await response.json());
      if (lost) log("server: answers again");
      lost = false;
    } catch {
      if (!lost) log("server: does not answer");
      lost = true;
      shown["server-state"].textContent = "does not answer";
    }
    paintBrowser();
  }
  setTimeout(look, 500);
}

// ---- trouble

async function order(kind) {
  const body = new URLSearchParams({ kind });
  const response = await fetch(lab.dataset.troubleUrl, { method: "POST", body, headers: { "X-CSRFToken": token() } });
  return response.json();
}

const orders = {
  async cut() {
    const { cut } = await order("cut");
    log(cut ? "you: cut the cable" : "you: cut the cable, but nothing was being sent");
  },
  async sleep() {
    await order("sleep");
    log(`you: sent the server to sleep for ${buttons.sleep.dataset.seconds} s`);
  },
  async slow() {
    const wanted = buttons.slow.getAttribute("aria-pressed") === "true" ? "fast" : "slow";
    await order(wanted);
    buttons.slow.setAttribute("aria-pressed", String(wanted === "slow"));
    log(wanted === "slow" ? "you: made the line slow" : "you: mended the line");
  },
};

for (const [kind, button] of Object.entries(buttons)) {
  button.disabled = false;
  button.addEventListener("click", () => orders[kind]().catch(() => log("server: does not answer")));
}

setInterval(paintBrowser, 250);
look();
