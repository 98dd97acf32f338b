// CTR and impressions of every window of the period: as a chart with marks, and as a table.
import { html, useMemo } from "../vendor/htm/standalone.module.js";
import { Chart, Legend } from "../chart.js";
import { MarkList } from "../marks.js";
import { Card, Details, Table, Trouble } from "../text.js";
import { clock, cpa, cpc, ctr, dayClock, money, NONE, percent, plural, roas, sum, whole } from "../format.js";
import { wilson } from "../statistics.js";
import { grid, SIZE_MS } from "./view.js";

const LEGEND = [
  ["CTR", "line", "--accent"],
  ["its 95 % interval", "band", "--accent"],
  ["final", "dot", "--accent"],
  ["provisional", "ring", "--accent"],
  ["impressions", "bar"],
  ["provisional", "bar pale"],
  ["corrected after the watermark", "diamond", "--corrected"],
  ["has late events, not counted", "cross", "--late"],
];

export function TotalCard({ totals, period, size, marks, ahead }) {
  const step = SIZE_MS[size];
  const { windows } = totals;
  const drawn = useMemo(() => {
    const slots = period ? grid(windows, period, step) : [];
    const bounds = slots.map((w) => (w ? wilson(w.clicks, w.impressions) : null));
    return {
      slots,
      times: slots.map((_, i) => period.from + i * step + step / 2),
      lines: [
        {
          name: "CTR",
          color: "--accent",
          values: slots.map((w) => (w?.impressions ? w.clicks / w.impressions : null)),
          low: bounds.map((b) => b?.[0] ?? null),
          high: bounds.map((b) => b?.[1] ?? null),
          hollow: slots.map((w) => w !== null && !w.final),
        },
      ],
      bars: {
        name: "Impressions",
        values: slots.map((w) => w?.impressions ?? null),
        pale: slots.map((w) => w !== null && !w.final),
        flags: slots.map((w) => (w?.corrected > 0 || w?.late > 0 ? { corrected: w.corrected, late: w.late } : null)),
      },
    };
  }, [windows, period?.from, period?.to, step]);
  const seen = useMemo(
    () => (period ? marks.filter((m) => m.at_ms >= period.from && m.at_ms < period.to) : []),
    [marks, period?.from, period?.to],
  );
  const all = sum(windows);
  const open = windows.filter((w) => !w.final).length;
  const corrected = windows.filter((w) => w.corrected > 0);
  const late = windows.filter((w) => w.late > 0);
  const add = (list, name) => list.reduce((n, w) => n + w[name], 0);
  const facts = [
    plural(windows.length, "window"),
    plural(all.impressions, "impression"),
    "CTR " + ctr(all),
    open + " provisional",
  ];
  if (corrected.length > 0)
    facts.push(
      plural(corrected.length, "window") +
        " corrected by " +
        plural(add(corrected, "corrected"), "impression") +
        " that came after the watermark",
    );
  if (late.length > 0)
    facts.push(plural(add(late, "late"), "event") + " too late to be counted, in " + plural(late.length, "window"));
  const tip = (i) => {
    const [w, start] = [drawn.slots[i], period.from + i * step];
    const lines = [
      [dayClock(start) + "–" + clock(start + step), w ? (w.final ? "final" : "provisional") : "no events", "tip-head"],
    ];
    if (!w) return lines;
    const bounds = wilson(w.clicks, w.impressions);
    lines.push(
      ["CTR", ctr(w)],
      ["95 %", bounds ? percent(bounds[0]) + " to " + percent(bounds[1]) : NONE],
      ["Impressions", whole(w.impressions)],
      ["Clicks", whole(w.clicks)],
      ["Cost", money(w.cost_micros)],
    );
    if (w.corrected > 0) lines.push(["Corrected", "+" + whole(w.corrected)]);
    if (w.late > 0) lines.push(["Late", whole(w.late)]);
    for (const m of seen.filter((m) => m.at_ms >= start && m.at_ms < start + step).slice(0, 3))
      lines.push([m.kind, m.deployment === null || m.deployment === undefined ? "" : "deployment " + m.deployment]);
    return lines;
  };
  return html`<${Card} id="total-title"
    title=${"CTR and impressions, " + (size === "1m" ? "1 min" : "5 min") + " windows"}
    aside=${period && html`<small>${dayClock(period.from)} to ${dayClock(period.to)} UTC, event time</small>`}>
    <${Trouble} problem=${totals.problem} stale=${windows.length > 0} again=${totals.again}/>
    <p class="facts" id="total-facts">${totals.loading ? "Reading older windows…" : facts.join(" · ")}</p>
    ${period && html`<${Chart} label="CTR and impressions over time" summary=${facts.join(", ")} ...${drawn}
      marks=${seen} tip=${tip} from=${period.from} to=${period.to} height=${300}/>`}
    <${Legend} items=${LEGEND}/>
    ${ahead > 0 && html`<p class="facts">
    ${plural(ahead, "window")} ahead of the watermark ${ahead === 1 ? "is"
      : "are"} not shown: stray events of the future.</p>`}
    <${Details} summary="Table of these windows"><${WindowTable} windows=${windows} step=${step}/></${Details}>
    <${Details} summary=${"Deployments and incidents (" + seen.length + ")"}><${MarkList} marks=${seen}/></${Details}>
  </${Card}>`;
}

export function WindowTable({ windows, step }) {
  const columns = [
    { name: "Window (UTC)", cell: (w) => dayClock(w.start_ms) + "–" + clock(w.start_ms + step) },
    { name: "Impressions", n: true, cell: (w) => whole(w.impressions) },
    { name: "Clicks", n: true, cell: (w) => whole(w.clicks) },
    { name: "CTR", n: true, cell: ctr },
    {
      name: "95 % interval",
      n: true,
      cell: (w) => {
        const b = wilson(w.clicks, w.impressions);
        return b ? percent(b[0]) + " – " + percent(b[1]) : NONE;
      },
    },
    { name: "CPC", n: true, cell: cpc, title: "modelled" },
    { name: "CPA", n: true, cell: cpa, title: "modelled" },
    { name: "ROAS", n: true, cell: roas, title: "modelled" },
    { name: "Cost", n: true, cell: (w) => money(w.cost_micros, 6), title: "modelled" },
    {
      name: "Corrected",
      n: true,
      cell: (w) => whole(w.corrected),
      title: "impressions that came after the watermark had passed the window's end",
    },
    { name: "Late", n: true, cell: (w) => whole(w.late), title: "events that came too late to be counted" },
    { name: "State", cell: (w) => (w.final ? "final" : "provisional") },
  ];
  return html`<${Table} label="Windows" columns=${columns} rows=${[...windows].reverse().slice(0, 500)}
    rowKey=${(w) => w.start_ms} rowClass=${(w) => (w.final ? "" : "provisional")} empty="No window in this period."/>
    ${windows.length > 500 && html`<small>The newest 500 of ${whole(windows.length)}.</small>`}`;
}
