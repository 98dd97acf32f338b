// Partitions, checkpoints, deployments and connectors, as tables.
import { html, useState } from "../vendor/htm/standalone.module.js";
import { get, post, useData } from "../api.js";
import { bytes, cut, daySeconds, NONE, plural, span, whole } from "../format.js";
import { Card, Chip, Digest, Table, Trouble } from "../text.js";
import { SINK_KINDS, stateOf, worst } from "./topology.js";

export function Partitions({ status, now }) {
  const columns = [
    { name: "Partition", cell: (p) => p.topic + "/" + p.partition },
    { name: "Log", n: true, cell: (p) => whole(p.log_start_offset) + " – " + whole(p.log_end_offset) },
    { name: "Processed", n: true, cell: (p) => whole(p.processed_offset) },
    { name: "Lag", n: true, cell: (p) => whole(p.lag) },
    { name: "Watermark (UTC)", cell: (p) => daySeconds(p.watermark_ms) },
    { name: "Closed before (UTC)", cell: (p) => daySeconds(p.closed_before_ms) },
    ...["counted", "rejected", "late", "dropped"].map((fate) => ({
      name: fate,
      n: true,
      cell: (p) => whole(p.ledger[fate]),
    })),
    { name: "Epoch", n: true, cell: (p) => whole(p.epoch) },
    {
      name: "Commit",
      n: true,
      cell: (p) => (p.committed_at_ms === null || now === null ? NONE : span(now - p.committed_at_ms) + " ago"),
    },
  ];
  return html`<${Card} id="partitions-title" title="Partitions">
    <${Table} label="Partitions" columns=${columns} rows=${status.partitions} rowKey=${(p) => p.topic + p.partition}/>
    </${Card}>`;
}

const KINDS = { sound: "good", unchecked: "" };

export function Checkpoints({ now }) {
  const { data, problem, fresh, again } = useData(
    "checkpoints",
    (signal) => get("/api/checkpoints", {}, signal),
    10000,
  );
  const [verified, setVerified] = useState(null);
  const [busy, setBusy] = useState(false);
  const verify = async () => {
    setBusy(true);
    try {
      setVerified({ data: await post("/api/checkpoints/verify"), problem: null });
    } catch (failed) {
      setVerified({ data: null, problem: failed });
    }
    setBusy(false);
  };
  const name = (c) => [c.partition, c.epoch, c.offset].join("|");
  const verdicts = new Map((verified?.data?.checkpoints ?? []).map((c) => [name(c), c]));
  const columns = [
    { name: "Partition", cell: (c) => whole(c.partition) },
    { name: "Epoch", n: true, cell: (c) => whole(c.epoch) },
    { name: "Offset", n: true, cell: (c) => whole(c.offset) },
    { name: "Written (UTC)", cell: (c) => daySeconds(c.written_ms) },
    { name: "Age", n: true, cell: (c) => (now === null ? NONE : span(now - c.written_ms)) },
    { name: "Size", n: true, cell: (c) => bytes(c.bytes) },
    {
      name: "State",
      cell: (c) => {
        const { state, fault } = verdicts.get(name(c)) ?? c;
        return html`<${Chip} kind=${KINDS[state] ?? "bad"}>${state}</${Chip}>
          ${fault && html` <span class="long">${fault}</span>`}`;
      },
    },
  ];
  const bad = [...verdicts.values()].filter((c) => c.state !== "sound").length;
  return html`<${Card} id="checkpoints-title" title="Checkpoints"
    aside=${html`<button onClick=${verify} disabled=${busy}>${busy ? "Reading them…" : "Verify"}</button>`}>
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    <${Trouble} problem=${verified?.problem} again=${verify}/>
    ${verified?.data && html`<p class="facts" role="status">
    ${plural(verdicts.size, "checkpoint")} read back: ${bad === 0 ? "all are sound" : bad + " are not"}.</p>`}
    <${Table} label="Checkpoints" columns=${columns} rows=${data?.checkpoints ?? []} rowKey=${name}
      empty=${fresh ? "None yet." : "Reading…"}/></${Card}>`;
}

const causeOf = ({ kind, to, of, undoes }) =>
  kind +
  (to !== undefined ? " to " + to : of !== undefined ? " of " + of : undoes !== undefined ? ", undoes " + undoes : "");

export function Deployments() {
  const { data, problem, fresh, again } = useData(
    "deployments",
    (signal) => get("/api/deployments", {}, signal),
    10000,
  );
  const list = data ?? [];
  const before = (d) => list.find((other) => other.deployment < d.deployment);
  const changed = (d) => {
    const old = new Map((before(d)?.stages ?? []).map((s) => [s.stage, s]));
    const news = d.stages.filter(
      (s) =>
        !old.has(s.stage) ||
        old.get(s.stage).sha256 !== s.sha256 ||
        JSON.stringify(old.get(s.stage).params) !== JSON.stringify(s.params),
    );
    const gone = [...old.keys()].filter((name) => !d.stages.some((s) => s.stage === name)).map((name) => "−" + name);
    return html`<ul class="plain">${news.map((s) => html`<li key=${s.stage}>
      ${s.stage}: ${s.name} ${s.version} <${Digest} sha256=${s.sha256}/>
      ${old.get(s.stage)?.sha256 === s.sha256 ? " (parameters)" : ""}</li>`)}${gone.map((name) => html`<li key=${name}>
      ${name}</li>`)}</ul>`;
  };
  const columns = [
    { name: "Deployment", cell: (d) => whole(d.deployment) },
    { name: "At (UTC)", cell: (d) => daySeconds(d.created_at_ms) },
    {
      name: "Cause",
      cell: (d) =>
        html`<${Chip} kind=${d.cause.kind === "breaker" ? "bad" : d.cause.kind === "rollback" ? "wait" : ""}>
          ${causeOf(d.cause)}</${Chip}>${d.reset_state && html` <${Chip} kind="wait">state reset</${Chip}>`}`,
    },
    {
      name: "Message",
      cell: (d) => html`<bdi dir="auto" title=${d.message} class="long">${cut(d.message, 120)}</bdi>`,
    },
    { name: "What it changed", cell: changed },
    { name: "Where", cell: (d) => (d.partitions === null ? "everywhere" : "partitions " + d.partitions.join(", ")) },
    {
      name: "Began at offset",
      cell: (d) =>
        Object.entries(d.activations)
          .map(([p, offset]) => p + "@" + whole(offset))
          .join(", ") || "not yet",
    },
  ];
  return html`<${Card} id="deployments-title" title="Deployments, newest first">
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    <${Table} label="Deployments" columns=${columns} rows=${list} rowKey=${(d) => d.deployment}
      empty=${fresh ? "None yet." : "Reading…"}/></${Card}>`;
}

export function Connectors({ connectors, rates }) {
  const rows = (connectors ?? []).flatMap((c) =>
    c.sinks.length > 0 ? c.sinks.map((s) => ({ c, s })) : [{ c, s: null }],
  );
  const columns = [
    { name: "Connector", cell: ({ c, s }) => (s && s.name !== c.name ? c.name + " / " + s.name : c.name) },
    { name: "Type", cell: ({ c }) => c.type },
    {
      name: "State",
      cell: ({ c, s }) =>
        html`<${Chip} kind=${s && c.wanted ? (SINK_KINDS[s.state] ?? "wait") : worst(c)}>
          ${s && c.wanted ? (s.state ?? "–") : stateOf(c)}</${Chip}>`,
    },
    { name: "Copies", cell: ({ s }) => (s?.topic ? s.topic + "/" + s.partition : NONE) },
    { name: "Offset", n: true, cell: ({ s }) => whole(s?.offset) },
    { name: "Lag", n: true, cell: ({ s }) => whole(s?.lag) },
    { name: "Rows", n: true, cell: ({ s }) => whole(s?.rows_written) },
    { name: "Skipped", n: true, cell: ({ s }) => whole(s?.skipped) },
    { name: "Retries", n: true, cell: ({ s }) => whole(s?.retries) },
    {
      name: "Problem",
      cell: ({ c, s }) => {
        const text = s?.last_error ?? c.off ?? "";
        return text
          ? html`<span class=${"long " + (c.off ? "quiet" : "problem")} title=${text}>${cut(text, 200)}</span>`
          : NONE;
      },
    },
    { name: "Server", cell: ({ s }) => (s?.server ? html`<code>${cut(s.server, 60)}</code>` : NONE) },
  ];
  return html`<${Card} id="connectors-title" title="Connectors">
    <${Table} label="Connectors" columns=${columns} rows=${rows} rowKey=${({ c, s }) => c.name + "/" + (s?.name ?? "")}
      empty="No connectors."/></${Card}>`;
}
