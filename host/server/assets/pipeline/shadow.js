// What a candidate makes of the live records, against what the chain in force makes of them.
import { html, useState } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { cut, daySeconds, percent, whole } from "../format.js";
import { Card, Chip, Details, Digest, Table, Trouble } from "../text.js";

const EVERY_MS = 3000;

function Matrix({ cells, records }) {
  const olds = [...new Set(cells.map((c) => c.old))];
  const news = [...new Set(cells.map((c) => c.new))];
  const of = (old, now) => cells.find((c) => c.old === old && c.new === now);
  const columns = [
    { name: "in force \\ candidate", cell: (old) => old },
    ...news.map((now) => ({
      name: now,
      n: true,
      cell: (old) => {
        const cell = of(old, now);
        return cell
          ? html`<span class=${old === now ? "" : "flip"} title=${percent(cell.records / records)}>
            ${whole(cell.records)}</span>`
          : html`<span class="quiet">0</span>`;
      },
    })),
  ];
  return html`<${Table} label="Verdicts of both" columns=${columns} rows=${olds}/>`;
}

export function Shadow() {
  // The answer where there is none is a refusal, which a browser notes: so it is asked for once, and again while one
  // runs.
  const [runs, setRuns] = useState(false);
  const { data, problem, fresh, again } = useData(
    "shadow" + runs,
    async (signal) => {
      const found = await get("/api/shadow", {}, signal).catch((e) => {
        if (e.status === 404) return { none: true };
        throw e;
      });
      setRuns(!found.none && found.ended === null);
      return found;
    },
    runs ? EVERY_MS : 0,
  );
  const samples = (data?.cells ?? [])
    .flatMap((c) => c.samples.map((s) => ({ ...s, old: c.old, now: c.new })))
    .slice(0, 20);
  return html`<${Card} id="shadow-title" title="Shadow"
    aside=${data && !data.none && html`<${Chip} kind=${data.ended ? "wait" : "good"}>${data.ended ? "ended" : "runs"}
      </${Chip}>`}>
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    ${data?.none && html`<p class="facts">No shadow runs. <code>clickmill shadow start FILE.wasm --stage
      STAGE</code> lets a candidate judge the live records; what it makes of them is thrown away. <button class="link"
        onClick=${again}>Look again</button></p>`}
    ${!fresh && !data && html`<p class="facts">Reading…</p>`}
    ${
      data &&
      !data.none &&
      html`<p>${data.name} ${data.version} <${Digest} sha256=${data.sha256}/> as stage <b>${data.stage}
        </b>, against deployment ${data.against}, since ${daySeconds(data.since_ms)} UTC</p>
      ${data.ended && html`<p class="facts bad">It has ended by itself: ${data.ended}</p>`}
      <p class="facts">${whole(data.records)} records seen (${percent(data.share_seen,
        1)} of those that came), ${whole(data.flips)} differ (${percent(data.records ? data.flips / data.records : null,
          3)}), ${whole(data.failures)} on which it failed · fuel a
            record ${whole(data.fuel_per_record_old)} → ${whole(data.fuel_per_record_new)}, time a
              record ${whole(data.nanos_per_record_old)} → ${whole(data.nanos_per_record_new)} ns</p>
      <${Matrix} cells=${data.cells} records=${data.records}/>
      ${
        samples.length > 0 &&
        html`<${Details} summary="Records that the two judge differently">
          <${Table} label="Samples" rows=${samples} columns=${[
          { name: "Record", cell: (s) => s.partition + "/" + whole(s.offset) },
          { name: "in force", cell: (s) => s.old },
          { name: "candidate", cell: (s) => s.now },
          { name: "Why", cell: (s) => cut(s.message, 120) },
          { name: "Value", cell: (s) => html`<code title=${s.value}><bdi dir="auto">${cut(s.value, 80)}</bdi></code>` },
        ]}/></${Details}>`
      }`
    }
  </${Card}>`;
}
