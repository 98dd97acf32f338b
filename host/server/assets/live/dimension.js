// Keys of one dimension within the period: a table of the greatest, or of those that are searched for, and a chart of
// the chosen ones.
import { html, useMemo, useRef } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { Chart, Legend } from "../chart.js";
import { Card, Name, Notice, Search, Select, Table, Trouble } from "../text.js";
import { clock, cpa, cpc, cut, ctr, dayClock, money, NONE, percent, plural, roas, sum, whole } from "../format.js";
import { wilson } from "../statistics.js";
import { Spark } from "./spark.js";
import { DIMENSIONS, dimensionName, dimensionOf, grid, ORDERS, SIZE_MS } from "./view.js";

const COLORS = ["--k1", "--k2", "--k3", "--k4", "--k5", "--k6"];
const UNCHOSEN = 3;
const SPARK_POINTS = 40;
export const TOPS = [5, 10, 20, 50];

export const topQuery = (values, size, period, limit = values.top) => ({
  size,
  dimension: dimensionOf(values),
  from: period.from,
  to: period.to,
  limit,
  search: values.q || undefined,
  order: values.order,
});

// Controls that the live page and the comparison share.
export function DimensionControls({ values, set }) {
  const dims = DIMENSIONS.some(([id]) => id === dimensionOf(values))
    ? DIMENSIONS
    : [...DIMENSIONS, [values.dim, values.dim]];
  return html`<div class="controls">
    <${Select} label="Dimension" value=${dimensionOf(values)} choices=${dims}
      onChange=${(dim) => set({ dim: dim === "site_category" ? "" : dim, key: [] })}/>
    <${Search} label="Search keys" value=${values.q} placeholder="part of a key" onChange=${(q) => set({ q }, true)}/>
    <${Select} label="Order" value=${values.order} choices=${ORDERS} onChange=${(order) => set({ order })}/>
    <${Select} label="Keys" value=${String(values.top)}
      choices=${[...new Set([...TOPS, values.top])].sort((a, b) => a - b).map((n) => [String(n), "top " + n])}
        onChange=${(n) => set({ top: Number(n) })}/>
  </div>`;
}

// The answer is as old as its refresh; while the page is paused it stays as it was.
function useTop(values, size, period, feed, every) {
  const asked = useRef({ at: 0, changes: 0 });
  const view = period
    ? JSON.stringify([topQuery(values, size, period.follows ? { from: period.to - period.from, to: 0 } : period)])
    : null;
  const now = performance.now();
  if (feed.changes !== asked.current.changes && now - asked.current.at >= Math.max(1000, every))
    asked.current = { at: now, changes: feed.changes };
  const key = view === null ? null : view + (period.follows ? asked.current.changes : feed.snapshots);
  const answer = useData(key, (signal) => get("/api/live/top", topQuery(values, size, period), signal));
  // While the same view is asked for anew, the old answer stays.
  const kept = useRef({ view: null, data: null });
  if (answer.fresh && answer.data) kept.current = { view, data: answer.data };
  return { ...answer, data: kept.current.view === view ? kept.current.data : null };
}

// As many points as a small line can show: windows next to each other together.
function spark({ series: windows }) {
  const each = Math.ceil(windows.length / SPARK_POINTS);
  const found = [];
  for (let at = 0; at < windows.length; at += each) {
    const [impressions, clicks] = windows.slice(at, at + each).reduce(([n, m], w) => [n + w[0], m + w[1]], [0, 0]);
    found.push(impressions > 0 ? clicks / impressions : null);
  }
  return found;
}

const NOTHING = [0, 0, 0, 0, 0];

// A key's sums at each of the starts; those without any window are not in the answer.
function placed(key, starts, known) {
  const at = new Map(known.map((start, i) => [start, key.series[i]]));
  return starts.map((start) => at.get(start) ?? NOTHING);
}

export function DimensionCard({ values, set, size, period, feed, every, finalBefore }) {
  const top = useTop(values, size, period, feed, every);
  const keys = top.data?.keys ?? [];
  const chosen = values.key.length > 0 ? keys.filter((k) => values.key.includes(k.key)) : keys.slice(0, UNCHOSEN);
  const drawn = chosen.slice(0, COLORS.length);
  const colorOf = (key) => COLORS[drawn.findIndex((k) => k.key === key)];
  const step = SIZE_MS[size];
  const plot = useMemo(() => {
    const known = top.data?.starts_ms ?? [];
    const [from, to] = top.data ? [top.data.from_ms, top.data.to_ms] : [0, 0];
    const starts = grid([], { from, to }, step).map((_, i) => from + i * step);
    const sums = drawn.map((k) => placed(k, starts, known));
    return {
      starts,
      sums,
      times: starts.map((start) => start + step / 2),
      lines: drawn.map((k, at) => ({
        name: k.key,
        color: COLORS[at],
        values: sums[at].map(([impressions, clicks]) => (impressions > 0 ? clicks / impressions : null)),
        hollow: starts.map((start) => finalBefore === null || start + step > finalBefore),
      })),
    };
  }, [top.data, drawn.map((k) => k.key).join("\n"), finalBefore]);
  const toggle = (key) => {
    const now = drawn.map((k) => k.key);
    set({ key: now.includes(key) ? now.filter((k) => k !== key) : [...now, key] });
  };
  const tip = (i) => [
    [dayClock(plot.starts[i]) + "–" + clock(plot.starts[i] + step), "", "tip-head"],
    ...drawn.map((k, at) => {
      const [impressions, clicks] = plot.sums[at][i];
      return [cut(k.key, 18), ctr({ impressions, clicks }) + " of " + whole(impressions)];
    }),
  ];
  const columns = [
    {
      name: "Chart",
      cell: (k) => {
        const on = colorOf(k.key) !== undefined;
        return html`<input type="checkbox" checked=${on} disabled=${!on && drawn.length >= COLORS.length}
          style=${{ accentColor: on ? `var(${colorOf(k.key)})` : "" }}
        aria-label=${"Draw " + cut(k.key)} onChange=${() => toggle(k.key)}/>`;
      },
    },
    { name: dimensionName(dimensionOf(values)), cell: (k) => html`<${Name} text=${k.key}/>` },
    { name: "CTR", n: true, cell: ctr },
    {
      name: "95 % interval",
      n: true,
      cell: (k) => {
        const b = wilson(k.clicks, k.impressions);
        return b ? percent(b[0]) + " – " + percent(b[1]) : NONE;
      },
    },
    { name: "CTR over time", cell: (k) => html`<${Spark} values=${spark(k)} color=${colorOf(k.key) ?? "--quiet"}/>` },
    { name: "Impressions", n: true, cell: (k) => whole(k.impressions) },
    { name: "Clicks", n: true, cell: (k) => whole(k.clicks) },
    { name: "CPC", n: true, cell: cpc, title: "modelled" },
    { name: "CPA", n: true, cell: cpa, title: "modelled" },
    { name: "ROAS", n: true, cell: roas, title: "modelled" },
    { name: "Cost", n: true, cell: (k) => money(k.cost_micros), title: "modelled" },
  ];
  const rest = top.data?.rest;
  const left = (top.data?.keys_total ?? 0) - keys.length;
  return html`<${Card} id="dimension-title" title=${"By " + dimensionName(dimensionOf(values)).toLowerCase()}
    aside=${top.data && html`<small>${plural(top.data.keys_total, "key")}${values.q ? " found" : ""}</small>`}>
    <${DimensionControls} values=${values} set=${set}/>
    <${Trouble} problem=${top.problem} stale=${top.data !== null} again=${top.again}/>
    ${top.data?.lower_bound && html`<${Notice}>Some windows had more keys than are kept: numbers of single keys are
      lower bounds. The total above is exact.</${Notice}>`}
    ${
      drawn.length > 0 &&
      html`<${Chart} label=${"CTR by " + dimensionName(dimensionOf(values)).toLowerCase()}
        summary=${drawn.map((k) => cut(k.key) + " " + ctr(k)).join(", ")} ...${plot} tip=${tip} from=${period.from}
          to=${period.to} height=${220}/>
      <${Legend} items=${drawn.map((k, i) => [cut(k.key, 24), "line", COLORS[i]])}/>
      ${values.key.length === 0 && html`<p
        class="facts">The first ${drawn.length} are drawn; choose others in the table, ${COLORS.length} at most.</p>`}`
    }
    ${values.key.length > chosen.length
      && html`<p class="facts">${plural(values.key.length - chosen.length, "chosen key")} not among these. <button
        class="link" onClick=${() => set({ key: [] })}>Choose anew</button></p>`}
    <${Table} label="Keys of the dimension" columns=${columns} rows=${keys} rowKey=${(k) => k.key}
      empty=${top.problem ? "–" : !top.fresh ? "Reading…" : values.q ? "No key has this in it."
        : "No events in this period."}/>
    ${rest?.impressions > 0 && html`<p class="facts">
      ${values.q ? "Everything else" : plural(left, "other key")}: ${plural(rest.impressions, "impression")}, CTR
      ${" " + ctr(rest)}.
      ${" "}All keys: ${whole(sum([...keys, rest]).impressions)} impressions.</p>`}
  </${Card}>`;
}
