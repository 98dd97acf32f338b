// The keys of a dimension against each other: CTR as bars with error bars, each bar a way to its trend.
import { html } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { Card, Name, Table, Trouble } from "../text.js";
import { ctr, cut, percent, plural, sum, whole } from "../format.js";
import { differ, wilson } from "../statistics.js";
import { metricColumns, Source } from "./columns.js";
import { EVERY_MS, NAMES, save } from "./view.js";

const LITTLE = 100; // impressions below which a key does not set the scale

// The greatest share that the bars reach; intervals beyond it are cut at the edge.
function reach(rows) {
  const known = rows.filter((r) => r.ctr !== null);
  const sound = known.filter((r) => r.impressions >= LITTLE);
  const most = Math.max(
    0,
    ...(sound.length > 0 ? sound : known).map((r) => Math.max(r.ctr, Math.min(r.ctr_high, r.ctr * 1.5))),
  );
  const step = 10 ** Math.floor(Math.log10(most || 0.01));
  return Math.min(1, (Math.ceil(((most || 0.01) / step) * 2) / 2) * step);
}

function Bar({ row, most, onClick }) {
  const at = (share) => Math.min(100, (share / most) * 100).toFixed(2) + "%";
  const label =
    cut(row.key) +
    ": CTR " +
    ctr(row) +
    ", 95 % " +
    percent(row.ctr_low) +
    " to " +
    percent(row.ctr_high) +
    "; show its trend";
  return html`<button class="bar-button" aria-label=${label} onClick=${onClick}>
    <svg class="bar-cell" aria-hidden="true">
    ${
      row.ctr !== null &&
      html`<rect class="bar" x="0" y="4" height="14" width=${at(row.ctr)}/>
      <line x1=${at(row.ctr_low)} x2=${at(row.ctr_high)} y1="11" y2="11"/>
      ${[row.ctr_low, row.ctr_high].filter((share) => share <= most).map((share,
        i) => html`<line key=${i} x1=${at(share)} x2=${at(share)} y1="6.5" y2="15.5"/>`)}`
    }
  </svg></button>`;
}

function verdict(row, all) {
  const others = { impressions: all.impressions - row.impressions, clicks: all.clicks - row.clicks };
  const apart = differ(row, others);
  if (apart === null) return html`<span class="quiet">–</span>`;
  return apart
    ? html`<span class="chip strong">
      ${row.clicks / row.impressions > others.clicks / others.impressions ? "higher" : "lower"}</span>`
    : html`<span class="quiet">within chance</span>`;
}

export function Breakdown({ values, set }) {
  const dimension = values.report;
  const query = {
    dimension,
    from: values.from,
    to: values.to,
    limit: values.top,
    search: values.q || undefined,
    order: values.order,
  };
  const { data, problem, fresh, again } = useData(
    JSON.stringify(query),
    (signal) => get("/api/reports/breakdown", query, signal),
    EVERY_MS,
  );
  const rows = data?.rows ?? [];
  const most = reach(rows);
  const all = sum(rows);
  const bounds = wilson(all.clicks, all.impressions);
  const trend = (row) => set({ report: "trend", dim: dimension, key: row.key });
  const complete = rows.length < values.top && values.q === "";
  const columns = [
    {
      name: NAMES[dimension],
      cell: (r) =>
        html`<button class="link" onClick=${() => trend(r)} title="show its trend"><${Name} text=${r.key}/></button>`,
    },
    {
      id: "bar",
      name: html`<span class="scale"><span>0</span><span>CTR with its 95 % interval</span><span>
        ${percent(most, most < 0.02 ? 2 : most < 0.2 ? 1 : 0)}</span></span>`,
      cell: (r) => html`<${Bar} row=${r} most=${most} onClick=${() => trend(r)}/>`,
    },
    ...metricColumns.slice(0, 2),
    ...(complete && rows.length > 1 ? [{ name: "Against the rest", cell: (r) => verdict(r, all) }] : []),
    ...metricColumns.slice(2),
  ];
  const little = rows.filter((r) => r.impressions < LITTLE).length;
  return html`<${Card} id="breakdown-title" title=${"CTR by " + NAMES[dimension].toLowerCase()}
    aside=${html`<button disabled=${rows.length === 0}
      onClick=${() => save(dimension, rows, dimension)}>Download CSV</button>`}>
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    <${Source} data=${data}/>
    ${values.key !== null && values.dim !== dimension
      && html`<p class="facts">The filter is not applied here: windows keep each dimension by itself, so how two of them
        go together is not known.</p>`}
    <p class="facts">${data ? [plural(rows.length, "key"), plural(all.impressions, "impression"),
      "CTR " + ctr(all) + (bounds ? " (95 %: " + percent(bounds[0]) + " to " + percent(bounds[1]) + ")"
        : "")].join(" · ") : "Reading…"}</p>
    <${Table} label=${NAMES[dimension]} columns=${columns} rows=${rows} rowKey=${(r) => r.key}
      rowClass=${(r) => (values.dim === dimension && r.key === values.key ? "chosen" : "")}
        empty=${!fresh ? "Reading…" : values.q ? "No key has this in it." : "No events in this period."}/>
    ${little > 0 && html`<p class="facts">
    ${plural(little, "key")} with fewer than ${whole(LITTLE)} impressions: their intervals are wide, and cut where they
      leave the scale.</p>`}
  </${Card}>`;
}
