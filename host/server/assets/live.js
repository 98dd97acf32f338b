// The live page: reads /api/live as a stream and writes what it says into the page. Text only, never markup: keys
// come from producers. EventSource cannot send a token, so the stream is read with fetch.
"use strict";

const at = (id) => document.getElementById(id);
const TOKEN = "clickmill-token";
const SILENCE_MS = 15000;
const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = (ratio) => ratio === null ? "–" : (ratio * 100).toFixed(2) + " %";
const iso = (ms) => new Date(ms).toISOString();
const minute = (iso) => iso.slice(11, 16);
const day = (iso) => iso.slice(0, 10);

function connection(text, kind) {
  const chip = at("connection");
  if (chip.textContent !== text) chip.textContent = text;
  chip.className = "chip " + kind;
  at("content").classList.toggle("stale", kind !== "good");
}

function rows(id, list, cells) {
  const body = at(id);
  body.replaceChildren(...list.map((item) => {
    const tr = document.createElement("tr");
    for (const [text, kind] of cells(item)) {
      const td = document.createElement("td");
      td.textContent = text;
      if (kind) td.className = kind;
      tr.append(td);
    }
    if (item.final === false) tr.className = "provisional";
    return tr;
  }));
}

function shape(name, attributes, text) {
  const node = document.createElementNS(at("chart").namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// The least of 1, 2 and 5 times a power of ten with which four lines reach the value.
function roundStep(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4));
  return power * [1, 2, 5, 10].find((times) => power * times * 4 >= most);
}

function chart(windows) {
  const [left, right, top, bottom] = [46, 712, 10, 196];
  const parts = [];
  const line = roundStep(Math.max(0.001, ...windows.map((w) => w.ctr ?? 0)));
  const most = line * 4;
  const widest = Math.max(1, ...windows.map((w) => w.impressions));
  const step = (right - left) / Math.max(windows.length, 1);
  const x = (i) => left + step * (i + 0.5);
  const y = (ctr) => bottom - (bottom - top) * ctr / most;
  for (let i = 0; i <= 4; i++) {
    const ctr = line * i;
    parts.push(shape("line", { class: "grid", x1: left, x2: right, y1: y(ctr), y2: y(ctr) }));
    parts.push(shape("text", { x: left - 6, y: y(ctr) + 4, "text-anchor": "end" }, short.format(ctr * 100) + " %"));
  }
  windows.forEach((w, i) => {
    const height = (bottom - top) * 0.6 * w.impressions / widest;
    const open = w.final ? "" : " open";
    parts.push(shape("rect", { class: "bar" + open, x: x(i) - step * 0.35, width: step * 0.7, y: bottom - height, height }));
    if (i % Math.ceil(windows.length / 10) === 0) {
      parts.push(shape("text", { x: x(i), y: bottom + 16, "text-anchor": "middle" }, minute(w.start)));
    }
  });
  const points = windows.map((w, i) => [x(i), y(w.ctr ?? 0), w]);
  parts.push(shape("polyline", { class: "ctr", points: points.map(([px, py]) => px.toFixed(1) + "," + py.toFixed(1)).join(" ") }));
  for (const [cx, cy, w] of points) {
    const dot = shape("circle", { class: w.final ? "dot" : "dot open", cx, cy, r: 3 });
    dot.append(shape("title", {}, minute(w.start) + ": " + percent(w.ctr) + ", " + whole.format(w.impressions) + " impressions"));
    parts.push(dot);
  }
  at("chart").replaceChildren(...parts);
  const last = windows.at(-1);
  at("chart").setAttribute("aria-label", last
    ? "CTR by minute, " + minute(windows[0].start) + " to " + minute(last.start) + ", newest " + percent(last.ctr)
    : "CTR by minute, no windows yet");
}

// Windows of one minute as they are known, by their start.
let known = new Map();
function take(name, event) {
  if (name === "snapshot") known = new Map();
  for (const w of event.windows["1m"]) {
    known.set(w.start_ms, { ...w, start: iso(w.start_ms), ctr: w.impressions > 0 ? w.clicks / w.impressions : null });
  }
  const newest = [...known.keys()].sort((a, b) => a - b).slice(-30);
  known = new Map(newest.map((start) => [start, known.get(start)]));
  show({ ...event, windows: [...known.values()], watermark: event.watermark_ms === null ? null : iso(event.watermark_ms) });
}

let spoken = 0;
function show(frame) {
  const last = frame.windows.at(-1);
  at("ctr").textContent = last ? percent(last.ctr) : "–";
  at("ctr-window").textContent = last ? day(last.start) + " " + minute(last.start) + " UTC" + (last.final ? "" : ", provisional") : "no windows yet";
  at("rate").textContent = short.format(frame.events_per_second);
  at("lag").textContent = whole.format(frame.lag);
  at("watermark").textContent = frame.watermark ? frame.watermark.slice(0, 19).replace("T", " ") : "–";
  const ledger = frame.ledger;
  for (const id of ["produced", "counted", "rejected", "late", "dropped", "waiting"]) at(id).textContent = whole.format(ledger[id]);
  at("balance").textContent = frame.balanced ? "it balances" : "does not balance";
  at("balance").className = frame.balanced ? "chip good" : "chip bad";
  const reasons = Object.entries({ ...ledger.rejected_by_rule, ...ledger.dropped_by_reason });
  at("reasons").textContent = reasons.map(([why, n]) => why + ": " + whole.format(n)).join(" · ");
  chart(frame.windows);
  rows("windows", frame.windows.slice(-10).reverse(), (w) => [
    [day(w.start) + " " + minute(w.start)], [whole.format(w.impressions), "n"], [whole.format(w.clicks), "n"],
    [percent(w.ctr), "n"], [money.format(w.cost_micros / 1e6), "n"], [whole.format(w.conversions), "n"],
    [w.final ? "final" : "provisional"]]);
  rows("modules", frame.modules, (m) => [[m.stage], [m.name], [m.version], [m.sha256, "digest"]]);
  at("content").hidden = false;
  connection(frame.caught_up ? "live" : "reading the topic…", frame.caught_up ? "good" : "");
  if (Date.now() - spoken > 20000) {
    spoken = Date.now();
    at("summary").textContent = "CTR " + at("ctr").textContent + ", " + at("rate").textContent + " events per second, lag "
      + at("lag").textContent + ", ledger " + at("balance").textContent;
  }
}

async function follow() {
  const token = sessionStorage.getItem(TOKEN);
  const stop = new AbortController();
  let timer;
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => stop.abort(), SILENCE_MS); };
  heard();
  try {
    const headers = token ? { authorization: "Bearer " + token } : {};
    const response = await fetch("/api/live", { headers, cache: "no-store", signal: stop.signal });
    if (response.status === 401) return "token";
    if (!response.ok) return "the server answers " + response.status;
    at("token-form").hidden = true;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return "the server ended the stream";
      heard();
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const [, name, data] of events.map((e) => e.match(/^event: (\w+)\ndata: (.*)$/)).filter((e) => e)) take(name, JSON.parse(data));
    }
  } catch (error) {
    return "no answer";
  } finally {
    clearTimeout(timer);
  }
}

function askForToken() {
  at("token-error").textContent = sessionStorage.getItem(TOKEN) ? "That was not the token." : "";
  sessionStorage.removeItem(TOKEN);
  at("token-form").hidden = false;
  at("content").hidden = true;
  connection("locked", "");
  at("token").focus();
  return new Promise((done) => {
    at("token-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, at("token").value.trim());
      at("token").value = "";
      done();
    };
  });
}

(async () => {
  for (let pause = 500; ; pause = Math.min(pause * 2, 5000)) {
    const began = Date.now();
    const why = await follow();
    if (why === "token") {
      await askForToken();
      pause = 250;
      continue;
    }
    if (Date.now() - began > 10000) pause = 500;
    connection("reconnecting: " + why, "bad");
    await new Promise((done) => setTimeout(done, pause));
  }
})();
