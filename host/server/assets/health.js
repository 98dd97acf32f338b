// Health and settings: whether the host does its work, how near each limit is, and what is in force.
import { html, useState } from "./vendor/htm/standalone.module.js";
import { get, getAny, useData } from "./api.js";
import { bytes, cut, daySeconds, NONE, span, whole } from "./format.js";
import { serverNow } from "./stream.js";
import { Card, Chip, Notice, Search, Table, Trouble } from "./text.js";

const EVERY_MS = 5000;
const NEAR = 0.75;
const AT = 0.9;
const FULL = ["pipeline.checkpoints_kept"]; // as many as there may be is how it should be

const amount = (n, unit) =>
  n === null || n === undefined ? NONE : unit === "bytes" ? bytes(n) : whole(n) + (unit ? "\u00a0" + unit : "");

function Meter({ limit }) {
  if (!limit.limit) return html`<span class="quiet">no limit is set</span>`;
  const share = limit.use / limit.limit;
  const percent = Math.round(share * 1000) / 10;
  return html`<div class="meter" role="meter" aria-label=${limit.name} aria-valuemin="0" aria-valuemax="100"
    aria-valuenow=${Math.min(100, percent)} aria-valuetext=${percent + " %"}>
    <div class=${FULL.includes(limit.name) ? "" : share >= AT ? "bad" : share >= NEAR ? "wait" : ""}
      style=${{ width: Math.min(100, percent) + "%" }}></div></div>`;
}

const counted = (l) => l.use !== null && l.use !== undefined;
const name = { name: "Setting", cell: (l) => html`<code>${l.name}</code>` };
const what = { name: "What it bounds", cell: (l) => html`<span class="long">${l.what}</span>` };
const most = { name: "At most", n: true, cell: (l) => (l.limit === null ? "no limit" : amount(l.limit, l.unit)) };

function Limits({ limits }) {
  const share = (l) => (l.limit && !FULL.includes(l.name) ? l.use / l.limit : -1);
  const rows = limits.filter(counted).sort((a, b) => share(b) - share(a));
  const columns = [
    name,
    { name: "Use", cell: (l) => html`<${Meter} limit=${l}/>` },
    { name: "Share", n: true, cell: (l) => (l.limit ? ((l.use / l.limit) * 100).toFixed(1) + "\u00a0%" : NONE) },
    { name: "Now", n: true, cell: (l) => amount(l.use, l.unit) },
    most,
    what,
  ];
  return html`<${Card} id="limits-title" title="Limits and their use" aside=${html`<small>the nearest first</small>`}>
    <${Table} label="Limits" columns=${columns} rows=${rows} rowKey=${(l) => l.name}/></${Card}>`;
}

// Those of a single request, record, call or wait: nothing adds up to a use.
function Thresholds({ limits }) {
  return html`<${Card} id="thresholds-title" title="Thresholds, and limits of one thing"
    aside=${html`<small>thresholds of alerts are in <code>monitoring/prometheus/rules</code></small>`}>
    <${Table} label="Thresholds" columns=${[name, most, what]} rows=${limits.filter((l) => !counted(l))}
      rowKey=${(l) => l.name}/></${Card}>`;
}

// Path -> value, however deep the settings are.
export function flat(value, path = "") {
  if (value === null || typeof value !== "object") return [[path, value]];
  const inside = Array.isArray(value)
    ? value.map((v, i) => [path + "[" + i + "]", v])
    : Object.entries(value).map(([k, v]) => [path ? path + "." + k : k, v]);
  return inside.length === 0 ? [[path, Array.isArray(value) ? "[]" : "{}"]] : inside.flatMap(([at, v]) => flat(v, at));
}

function Config({ config }) {
  const [wanted, setWanted] = useState("");
  const all = flat(config);
  const rows = all.filter(([path, value]) => (path + " " + value).toLowerCase().includes(wanted.toLowerCase()));
  const columns = [
    { name: "Setting", cell: ([path]) => html`<code>${path}</code>` },
    {
      name: "Value in force",
      cell: ([, value]) =>
        html`<code class="long" title=${String(value)}><bdi dir="auto">${value === null ? "–" : cut(String(value), 160)}
          </bdi></code>`,
    },
  ];
  return html`<${Card} id="config-title" title="Configuration in force"
    aside=${html`<small>secrets are masked; ${rows.length} of ${all.length} settings</small>`}>
    <div class="controls"><${Search} label="Search settings" value=${wanted} placeholder="threshold, retention, …"
      onChange=${setWanted}/></div>
    <${Table} label="Settings" columns=${columns} rows=${rows} rowKey=${([path]) => path}
      empty="No setting has this in it."/></${Card}>`;
}

export function HealthPage() {
  const ready = useData("ready", (signal) => getAny("/health/ready", signal), EVERY_MS);
  const health = useData("health", (signal) => get("/api/health", {}, signal), EVERY_MS);
  const at = health.data;
  const good = ready.data?.status === "ready" && at?.ready !== false;
  const reasons = [...new Set([ready.data?.reason, ...(at?.reasons ?? [])].filter(Boolean))];
  const now = serverNow() ?? at?.clock?.now_ms ?? null;
  const skew = at?.clock ? Date.now() - at.clock.now_ms : null;
  const pairs = at && [
    ["Up for", span(at.uptime_ms)],
    ["Server's clock", daySeconds(at.clock?.now_ms) + " UTC"],
    [
      "Newest commit",
      at.clock?.newest_commit_ms
        ? daySeconds(at.clock.newest_commit_ms) + " UTC, " + span(now - at.clock.newest_commit_ms) + " ago"
        : "none yet",
    ],
    [
      "This computer's clock",
      Math.abs(skew) < 5000 ? "agrees" : span(skew) + (skew > 0 ? " ahead of" : " behind") + " the server's",
    ],
    ...Object.entries(at.versions ?? {})
      .filter(([, version]) => version)
      .map(([name, version]) => [name, String(version)]),
  ];
  return html`<h1 tabindex="-1">Health and settings</h1>
    <${Trouble} problem=${ready.problem} stale=${ready.data !== null} again=${ready.again}/>
    ${
      ready.data &&
      html`<${Card} id="ready-title" title="Readiness"
        aside=${html`<${Chip} kind=${good ? "good" : "bad"}>${good ? "ready" : "not ready"}</${Chip}>`}>
      ${good ? html`<p>The host does its work.</p>`
        : html`<${Notice} kind="bad" title="It does not do its work:"><ul>
          ${reasons.map((reason) => html`<li key=${reason}>${reason}</li>`)}</ul></${Notice}>`}
      ${pairs && html`<dl class="pairs">
      ${pairs.map(([name, value]) => [html`<dt key=${name}>${name}</dt>`, html`<dd key=${name + "d"}>${value}</dd>`])}
      </dl>`}</${Card}>`
    }
    <${Trouble} problem=${health.problem} stale=${at !== null} again=${health.again}/>
    ${at && html`<${Limits} limits=${at.limits}/><${Thresholds} limits=${at.limits}/>
    <${Config} config=${at.config}/>`}`;
}
