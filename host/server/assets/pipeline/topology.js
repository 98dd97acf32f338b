// The way of an event: topic, stages, topics of results, connectors; each with what it does at the moment.
import { html } from "../vendor/htm/standalone.module.js";
import { daySeconds, NONE, plural, rate, span, whole } from "../format.js";
import { Card, Chip, Digest, Link } from "../text.js";

export const SINK_KINDS = {
  running: "good",
  starting: "wait",
  retrying: "bad",
  refused: "bad",
  failed: "bad",
  stopped: "wait",
};

const ends = (topic) => (topic?.partitions ?? []).reduce((n, p) => n + p.log_end_offset, 0);
const perSecond = (n) => (n === undefined ? "–" : rate(n)) + "/s";

function Node({ kind, name, state, facts, href, children }) {
  return html`<li class=${"node " + kind}><span class="node-kind">${kind}</span>
    <div class="node-name">${href ? html`<${Link} href=${href}>${name}</${Link}>` : html`<b>${name}</b>`}${state}</div>
    <dl>${facts.filter(Boolean).map(([what, value]) => html`<div key=${what}><dt>${what}</dt><dd>${value}</dd></div>`)}
    </dl>${children}</li>`;
}

export function Topology({ status, stages, connectors, rates, newest }) {
  const topic = (name) => status.topics.find((t) => t.topic === name);
  const raw = topic("ad_events_raw");
  const watermarks = status.partitions.map((p) => p.watermark_ms).filter((ms) => ms !== null);
  const skew = watermarks.length > 1 ? Math.max(...watermarks) - Math.min(...watermarks) : null;
  const stage = (s) =>
    html`<${Node} key=${s.stage} kind="stage" name=${s.stage}
      state=${s.staged && html`<${Chip} kind="wait">staged</${Chip}>`} facts=${[
      ["Rate", perSecond(rates["stage:" + s.stage])],
      ["Module", s.name + " " + s.version],
      ["SHA-256", html`<${Digest} sha256=${s.sha256}/>`],
      ["Deployment", s.deployment ?? NONE],
      s.staged && [
        "Staged",
        "deployment " + s.staged.deployment + " on " + plural(Object.keys(s.staged.activations).length, "partition"),
      ],
    ]}/>`;
  const sinks = (connectors ?? []).filter((c) => c.sinks.length > 0 || !c.wanted);
  return html`<${Card} id="topology-title" title="Topology"
    aside=${html`<${Chip} kind=${status.state === "running" && !status.paused ? "good" : "wait"}>
      ${status.paused ? "paused" : status.state}</${Chip}>`}>
    <ol class="flow" aria-label="The way of an event">
      <${Node} kind="topic" name="ad_events_raw" facts=${[
        ["In", perSecond(rates["topic:ad_events_raw"])],
        ["Records", whole(ends(raw))],
        ["Lag", plural(status.ledger.waiting, "record")],
        ["Partitions", whole(raw?.partitions.length)],
      ]}/>
      ${stages.map(stage)}
      <${Node} kind="workers" name="commit" facts=${[
        ["Judged", newest ? rate(newest.events_per_second) + "/s" : "–"],
        ["Watermark", watermarks.length > 0 ? daySeconds(Math.min(...watermarks)) : NONE],
        ["Skew", skew === null ? NONE : span(skew)],
      ]}/>
      <li class="fork"><ul>
        <${Node} kind="topic" name="ctr_windows" facts=${[
          ["In", perSecond(rates["topic:ctr_windows"])],
          ["Records", whole(ends(topic("ctr_windows")))],
        ]}/>
        <${Node} kind="topic" name="ad_events_error" href="/dead-letters" facts=${[
          ["In", perSecond(rates["topic:ad_events_error"])],
          ["Rejected", whole(status.ledger.rejected)],
        ]}/>
      </ul></li>
      <li class="fork"><ul>${sinks.map(
        (c) =>
          html`<${Node} key=${c.name} kind="connector" name=${c.name}
            state=${html`<${Chip} kind=${worst(c)}>${stateOf(c)}</${Chip}>`} facts=${[
            ["Rows", perSecond(rates["sink:" + c.name])],
            ["Lag", plural(Math.max(0, ...c.sinks.map((s) => s.lag ?? 0)), "record")],
          ]}/>`,
      )}</ul></li>
    </ol></${Card}>`;
}

// What is shown of a connector with several sinks is the worst of them.
const ORDER = ["failed", "refused", "retrying", "stopped", "starting", "running"];
export function stateOf(connector) {
  if (!connector.wanted) return "stopped";
  if (connector.off) return "off";
  return ORDER.find((state) => connector.sinks.some((s) => s.state === state)) ?? "no sinks";
}
export const worst = (connector) => (stateOf(connector) === "off" ? "" : (SINK_KINDS[stateOf(connector)] ?? "wait"));

export function counters(status, connectors, stages) {
  const found = {};
  for (const topic of status.topics) found["topic:" + topic.topic] = ends(topic);
  for (const c of connectors ?? []) found["sink:" + c.name] = c.sinks.reduce((n, s) => n + (s.rows_written ?? 0), 0);
  for (const [stage, n] of Object.entries(stages ?? {})) found["stage:" + stage] = n;
  return found;
}
