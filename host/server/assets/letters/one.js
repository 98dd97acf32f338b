// One dead letter: what it was, why it was rejected, and what the chain says of it now.
import { html, useState } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { bytes as size, daySeconds, lines, NONE, plural, visible, whole } from "../format.js";
import { Card, Chip, Digest, Table, Trouble } from "../text.js";
import { bytesOf, hex, originOf, STATE_KINDS } from "./view.js";

const TEXT_BYTES = 8192;
const HEX_BYTES = 512;

function Payload({ title, payload }) {
  const [shown, setShown] = useState(HEX_BYTES);
  const bytes = bytesOf(payload);
  const all = payload.raw_payload_bytes ?? bytes.length;
  const text = lines(new TextDecoder().decode(bytes.slice(0, TEXT_BYTES)));
  return html`<h3>${title}, ${plural(all, "byte")}${all > bytes.length
    ? ", of which " + size(bytes.length) + " are kept" : ""}</h3>
    <pre class="payload" tabindex="0" aria-label="Payload as text"><bdi dir="auto">${text}</bdi></pre>
    ${bytes.length > TEXT_BYTES && html`<p class="facts">The first ${size(TEXT_BYTES)}.</p>`}
    <pre class="payload hex" tabindex="0" aria-label="Payload, byte by byte">${hex(bytes, 0, shown)}</pre>
    ${bytes.length > shown && html`<p class="facts">
    ${size(shown)} of ${size(bytes.length)}. <button class="link"
      onClick=${() => setShown(shown * 4)}>More bytes</button></p>`}`;
}

const NOW = {
  passes: ["good", "the chain takes it now"],
  rejected: ["bad", "it would be rejected still"],
  unknown: ["wait", "not known"],
};

export function Letter({ id, version, close, act }) {
  const { data, problem, again } = useData(id + "|" + version, (signal) =>
    get("/api/dlq/letters/" + encodeURIComponent(id), {}, signal),
  );
  const [kind, said] = NOW[data?.now.fate] ?? ["", data?.now.fate];
  const pairs =
    data &&
    [
      ["State", html`<${Chip} kind=${STATE_KINDS[data.state]}>${data.state}</${Chip}> ${data.reason}`],
      [
        "Now",
        html`<${Chip} kind=${kind}>${said}</${Chip}> ${data.now.rule ? data.now.rule + ": " : ""}<bdi dir="auto">
          ${visible(data.now.message ?? data.now.why ?? "")}</bdi>`,
      ],
      ["Rejected", daySeconds(data.error_timestamp_ms) + " UTC by " + data.error_type + ":" + data.rule],
      ["Message", html`<bdi dir="auto">${visible(data.message)}</bdi>`],
      ["Origin", html`<bdi dir="auto">${originOf(data.origin)}</bdi>`],
      data.judged && [
        "Judged by",
        html`${data.judged.stage ? "stage " + data.judged.stage : ""} ${data.module_digest
          && html`<${Digest} sha256=${data.module_digest}/>`}${data.deployment !== undefined
            ? ", deployment " + data.deployment : ""}`,
      ],
      data.connector && ["Connector", data.connector],
      data.due_at && ["Next attempt", data.due_at],
    ].filter(Boolean);
  const columns = [
    { name: "Attempt", cell: (a) => whole(a.attempt) },
    { name: "At (UTC)", cell: (a) => daySeconds(a.at_ms) },
    { name: "Came to", cell: (a) => a.outcome },
    { name: "Deployment", n: true, cell: (a) => whole(a.deployment) },
    { name: "Rule", cell: (a) => a.rule ?? NONE },
    { name: "Message", cell: (a) => html`<span class="long">${visible(a.message ?? "")}</span>` },
  ];
  return html`<${Card} id="letter-title" title=${"Letter " + id} aside=${html`<span class="row">
      <button disabled=${!data} onClick=${() => act("dry", { ids: [id] }, "letter " + id)}>Dry run</button>
      <button disabled=${!data || data.state === "resolved"}
        onClick=${() => act("retry", { ids: [id] }, "letter " + id)}>Retry…</button>
      <button onClick=${close}>Close</button></span>`}>
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    ${
      data &&
      html`<dl class="pairs">${pairs.map(([name, value]) => [html`<dt key=${name}>${name}</dt>`,
        html`<dd key=${name + "d"}>${value}</dd>`])}</dl>
      <${Payload} title="Payload" payload=${data}/>
      ${data.edited && html`<${Payload} title="Edited payload, which a retry sends" payload=${data.edited}/>`}
      ${data.stacktrace && html`<h3>Stack of the module</h3>
      <pre class="payload" tabindex="0" aria-label="Stack of the module">${lines(data.stacktrace)}</pre>`}
      ${data.attempts.length > 0 && html`<h3>Attempts</h3>
      <${Table} label="Attempts" columns=${columns} rows=${data.attempts}/>`}`
    }
  </${Card}>`;
}
