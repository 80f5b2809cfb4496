"use strict";
// The page is whole without this. Added: buttons that copy, the address as the browser knows it,
// and numbers that go on.

const here = location.origin + location.pathname.replace(/\/$/, "");
for (const span of document.querySelectorAll(".base")) span.textContent = here;
for (const span of document.querySelectorAll(".host")) span.textContent = location.hostname.replace(/[\[\]]/g, "");

// A page that came over plain HTTP may not use the clipboard; a selection may still be copied.
async function copy(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent);
  getSelection().selectAllChildren(code);
  if (!document.execCommand("copy")) throw new Error("not allowed");
}

for (const pre of document.querySelectorAll("pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await copy(pre.querySelector("code"));
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy it by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  pre.after(button);
}

const formats = {
  text: (value) => value,
  count: (value) => Math.trunc(value).toLocaleString("en-US"),
  rate: (value) => value.toFixed(1),
  share: (value) => (value * 100).toFixed(1) + " %",
  bytes(value) {
    if (value < 1024) return Math.trunc(value) + " B";
    const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let at = -1;
    while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
    return value.toFixed(1) + " " + units[at];
  },
  duration(value) {
    const [minutes, hours, days] = [60, 3600, 86400].map((unit) => Math.trunc(value / unit));
    if (days) return days + " d " + hours % 24 + " h";
    if (hours) return hours + " h " + minutes % 60 + " min";
    if (minutes) return minutes + " min " + value % 60 + " s";
    return value + " s";
  },
};

const written = (value, as) => value === null ? "–" : formats[as](value);

function row(fill) {
  const tr = document.createElement("tr");
  const code = document.createElement("code");
  const bar = document.createElement("progress");
  code.textContent = fill.name + "…";
  bar.max = 1;
  bar.value = fill.full ?? 0;
  tr.insertCell().append(code);
  tr.insertCell().append(written(fill.bytes, "bytes") + " of " + written(fill.of, "bytes"));
  tr.insertCell().append(bar);
  return tr;
}

function nothing() {
  const tr = document.createElement("tr");
  const cell = tr.insertCell();
  cell.colSpan = 3;
  cell.textContent = "nothing";
  return tr;
}

function show(status) {
  for (const place of document.querySelectorAll("[data-live]")) {
    const value = place.dataset.live.split(".").reduce((part, name) => part[name], status);
    if (place.dataset.as === "meter") place.value = value;
    else place.textContent = written(value, place.dataset.as);
  }
  const fills = status.fills.list.map(row);
  document.getElementById("fills").replaceChildren(...(fills.length ? fills : [nothing()]));
}

const pulse = document.getElementById("pulse");

async function beat() {
  if (!document.hidden) {
    try {
      const answer = await fetch(location.pathname, { headers: { Accept: "application/json" }, cache: "no-store" });
      if (!answer.ok) throw new Error(answer.status);
      show(await answer.json());
      pulse.textContent = "Live, each second.";
    } catch {
      pulse.textContent = "The server does not answer; these numbers stand still.";
    }
  }
  setTimeout(beat, 1000);
}

if (pulse) beat();
