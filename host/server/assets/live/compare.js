// Two periods of the same length over each other: whether anything has changed, and whether that is more than chance.
import { html, useMemo } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { Chart, Legend } from "../chart.js";
import { Card, Name, Notice, Select, Table, Trouble } from "../text.js";
import { cpa, cpc, ctr, dayClock, money, NONE, percent, plural, roas, sum, whole } from "../format.js";
import { differ, wilson } from "../statistics.js";
import { DimensionControls, topQuery } from "./dimension.js";
import { TimeField } from "./times.js";
import { useTotals } from "./feed.js";
import { dimensionName, dimensionOf, grid, RANGE_MS, RANGES, SIZE_MS, sizeOf } from "./view.js";

const B_LIMIT = 100; // keys of period B among which those of A are looked for; the server gives no more

// The later period A and the earlier B; without an address, the newest span and the one before it.
export function periodsOf(values, newest) {
  const step = SIZE_MS[sizeOf(values)];
  const long = RANGE_MS[values.span];
  const end = values.paused ?? (newest ? newest.start_ms + step : null);
  if (end === null && values.a === null) return null;
  const a = Math.floor((values.a ?? end - long) / step) * step;
  const b = Math.floor((values.b ?? a - long) / step) * step;
  const follows = values.a === null && values.paused === null;
  return { a: { from: a, to: a + long, follows }, b: { from: b, to: b + long, follows: follows && values.b === null } };
}

const points = (a, b) => {
  if (!a?.impressions || !b?.impressions) return NONE;
  const by = (a.clicks / a.impressions - b.clicks / b.impressions) * 100;
  return (by >= 0 ? "+" : "−") + Math.abs(by).toFixed(2) + " points";
};
const offset = (ms) => Math.floor(ms / 3600000) + ":" + String(Math.floor(ms / 60000) % 60).padStart(2, "0");
const verdict = (a, b) => {
  const apart = a && b ? differ(a, b) : null;
  return apart === null
    ? html`<span class="quiet">too little is known</span>`
    : apart
      ? html`<span class="chip strong">
        ${a.clicks / a.impressions > b.clicks / b.impressions ? "higher" : "lower"}</span>`
      : html`<span class="quiet">within chance</span>`;
};
const interval = (m) => {
  const b = m ? wilson(m.clicks, m.impressions) : null;
  return b ? percent(b[0]) + " – " + percent(b[1]) : NONE;
};

export function Compare({ values, set, feed, newest }) {
  const size = sizeOf(values);
  const step = SIZE_MS[size];
  const periods = periodsOf(values, newest);
  const [a, b] = [useTotals(feed, size, periods?.a), useTotals(feed, size, periods?.b)];
  const plot = useMemo(() => {
    if (!periods) return null;
    const line = (totals, period, name, color, dashed) => ({
      name,
      color,
      dashed,
      values: grid(totals.windows, period, step).map((w) => (w?.impressions ? w.clicks / w.impressions : null)),
      hollow: grid(totals.windows, period, step).map((w) => w !== null && !w.final),
    });
    const times = grid([], periods.a, step).map((_, i) => i * step + step / 2);
    return {
      times,
      names: times.map((at) => "+" + offset(at - step / 2)),
      lines: [line(b, periods.b, "B", "--k2", true), line(a, periods.a, "A", "--k1", false)],
    };
  }, [a.windows, b.windows, periods?.a.from, periods?.b.from, step]);
  const key = periods
    ? JSON.stringify([
        dimensionOf(values),
        values.q,
        values.order,
        values.top,
        periods.a.from,
        periods.b.from,
        values.span,
        feed.snapshots,
        periods.a.follows ? Math.floor(feed.changes / 10) : 0,
      ])
    : null;
  const tops = useData(key, (signal) =>
    Promise.all([
      get("/api/live/top", topQuery(values, size, periods.a), signal),
      get("/api/live/top", topQuery(values, size, periods.b, B_LIMIT), signal),
    ]),
  );
  if (!periods) return html`<${Notice}>No window yet to compare.</${Notice}>`;

  const [all, before] = [sum(a.windows), sum(b.windows)];
  const uneven =
    !a.loading &&
    !b.loading &&
    Math.abs(a.windows.length - b.windows.length) > 0.1 * Math.max(a.windows.length, b.windows.length);
  const overlap = Math.abs(periods.a.from - periods.b.from) < RANGE_MS[values.span];
  const rows = [
    ["Impressions", (m) => whole(m.impressions)],
    ["Clicks", (m) => whole(m.clicks)],
    ["CTR", ctr],
    ["95 % interval", interval],
    ["CPC", cpc],
    ["CPA", cpa],
    ["ROAS", roas],
    ["Cost", (m) => money(m.cost_micros)],
  ];
  const tip = (i) => {
    const [wa, wb] = [a, b].map((t, n) =>
      t.windows.find((w) => w.start_ms === (n === 0 ? periods.a : periods.b).from + i * step),
    );
    return [
      ["+" + offset(i * step), "", "tip-head"],
      ["A " + dayClock(periods.a.from + i * step), ctr(wa)],
      ["B " + dayClock(periods.b.from + i * step), ctr(wb)],
      ["Difference", points(wa, wb)],
    ];
  };
  const [topA, topB] = tops.data ?? [null, null];
  const earlier = new Map((topB?.keys ?? []).map((k) => [k.key, k]));
  const columns = [
    { name: dimensionName(dimensionOf(values)), cell: (k) => html`<${Name} text=${k.key}/>` },
    { name: "CTR A", n: true, cell: ctr },
    { name: "interval A", n: true, cell: interval },
    { name: "impressions A", n: true, cell: (k) => whole(k.impressions) },
    { name: "CTR B", n: true, cell: (k) => ctr(earlier.get(k.key)) },
    { name: "interval B", n: true, cell: (k) => interval(earlier.get(k.key)) },
    { name: "impressions B", n: true, cell: (k) => whole(earlier.get(k.key)?.impressions) },
    { name: "Difference", n: true, cell: (k) => points(k, earlier.get(k.key)) },
    { name: "A against B", cell: (k) => verdict(k, earlier.get(k.key)) },
  ];
  const summary = "A: CTR " + ctr(all) + ", B: CTR " + ctr(before) + ", difference " + points(all, before);
  return html`<${Card} id="compare-title" title="Two periods"
    aside=${html`<small>${size === "1m" ? "1 min" : "5 min"} windows, event time, UTC</small>`}>
    <div class="controls">
      <${Select} label="Length" value=${values.span} choices=${RANGES} onChange=${(name) => set({ span: name })}/>
      <${TimeField} label="A begins (UTC)" value=${periods.a.from} onChange=${(at) => set({ a: at })}/>
      <${TimeField} label="B begins (UTC)" value=${periods.b.from} onChange=${(at) => set({ b: at })}/>
      ${(values.a !== null || values.b !== null)
        && html`<button onClick=${() => set({ a: null, b: null })}>Newest against the one before</button>`}
    </div>
    ${uneven && html`<${Notice}>A has events in ${plural(a.windows.length,
      "window")}, B in ${b.windows.length}: the periods are not alike, and hours differ by themselves.</${Notice}>`}
    ${overlap && html`<${Notice}>The two periods share events: their difference says less than it seems
      to.</${Notice}>`}
    <${Trouble} problem=${a.problem ?? b.problem} stale=${false} again=${a.problem ? a.again : b.again}/>
    <div class="split"><div>
      <${Chart} label="CTR of both periods" summary=${summary} ...${plot} tip=${tip} height=${280}/>
      <${Legend} items=${[
        ["A from " + dayClock(periods.a.from), "line", "--k1"],
        ["B from " + dayClock(periods.b.from), "line dashed", "--k2"],
        ["provisional", "ring", "--k1"],
      ]}/></div>
    <div><${Table} label="Both periods in numbers" rows=${rows} columns=${[
      { name: "Measure", cell: ([name]) => name },
      { name: "A", n: true, cell: ([, shown]) => shown(all) },
      { name: "B", n: true, cell: ([, shown]) => shown(before) },
    ]}/>
      <p class="facts" id="compare-verdict">CTR of A less B: ${points(all, before)}, ${verdict(all, before)}</p>
      <p class="facts">${plural(a.windows.length,
        "window")} in A, ${b.windows.length} in B${a.windows.some((w) => !w.final) ? ", some provisional" : ""}.</p>
          </div></div>
  </${Card}>
  <${Card} id="compare-keys" title=${"By " + dimensionName(dimensionOf(values)).toLowerCase()}>
    <${DimensionControls} values=${values} set=${set}/>
    <${Trouble} problem=${tops.problem} stale=${tops.data !== null} again=${tops.again}/>
    <${Table} label="Keys in both periods" columns=${columns} rows=${topA?.keys ?? []} rowKey=${(k) => k.key}
      empty=${tops.fresh ? "No events in period A." : "Reading…"}/>
    ${topB && topB.keys_total > B_LIMIT
      && html`<p class="facts">Keys of A that are not among the first ${B_LIMIT} of B have no numbers there.</p>`}
    <p class="facts">Each verdict alone is wrong in one of twenty cases where nothing has changed:
      of ${plural(topA?.keys.length ?? 0, "key")}, some will seem to differ.</p>
  </${Card}>`;
}
