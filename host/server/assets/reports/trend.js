// CTR over time, or over the hours of a day or the days of a week, with the interval of each.
import { html, useMemo } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { Chart, Legend } from "../chart.js";
import { Card, Table, Trouble } from "../text.js";
import { ctr, dayClock, NONE, percent, plural, sum, whole } from "../format.js";
import { wilson } from "../statistics.js";
import { navigate } from "../url.js";
import { metricColumns, Source } from "./columns.js";
import { BYS, EVERY_MS, NAMES, save, schema } from "./view.js";

const STEP_MS = { hour: 3600000, day: 86400000 };

const labelOf = (row, by) => (by === "hour" ? dayClock(row.start_ms) : row.label);

export function Trend({ values, set }) {
  const query = {
    by: values.by,
    dimension: values.dim || "total",
    key: values.dim ? values.key : undefined,
    from: values.from,
    to: values.to,
  };
  const { data, problem, fresh, again } = useData(
    JSON.stringify(query),
    (signal) => get("/api/reports/trend", query, signal),
    EVERY_MS,
  );
  const rows = data?.rows ?? [];
  const step = STEP_MS[values.by];
  const plot = useMemo(() => {
    const timed = step !== undefined;
    const line = {
      name: "CTR",
      color: "--accent",
      whiskers: true,
      values: rows.map((r) => r.ctr),
      low: rows.map((r) => r.ctr_low),
      high: rows.map((r) => r.ctr_high),
      hollow: rows.map(() => false),
    };
    return {
      times: rows.map((r, i) => (timed ? r.start_ms + step / 2 : i)),
      names: timed ? null : rows.map((r) => r.label),
      lines: [line],
      bars: { name: "Impressions", values: rows.map((r) => r.impressions), pale: rows.map(() => false) },
    };
  }, [data, step]);
  const all = sum(rows);
  const bounds = wilson(all.clicks, all.impressions);
  const tip = (i) => [
    [labelOf(rows[i], values.by), "", "tip-head"],
    ["CTR", ctr(rows[i])],
    ["95 %", rows[i].ctr_low === null ? NONE : percent(rows[i].ctr_low) + " to " + percent(rows[i].ctr_high)],
    ["Impressions", whole(rows[i].impressions)],
    ["Clicks", whole(rows[i].clicks)],
  ];
  // From a day to its hours, from an hour to its windows.
  const open = (row) => {
    if (values.by === "day") set({ by: "hour", from: row.start_ms, to: row.start_ms + step });
    else navigate("/?from=" + schema.from.show(row.start_ms) + "&to=" + schema.to.show(row.start_ms + step));
  };
  const name = BYS.find(([id]) => id === values.by)[1];
  const columns = [
    {
      name,
      cell: (r) =>
        step
          ? html`<button class="link" title=${values.by === "day" ? "its hours" : "its windows"}
            onClick=${() => open(r)}>${labelOf(r, values.by)}</button>`
          : r.label,
    },
    ...metricColumns,
  ];
  const facts = [
    plural(all.impressions, "impression"),
    "CTR " + ctr(all) + (bounds ? " (95 %: " + percent(bounds[0]) + " to " + percent(bounds[1]) + ")" : ""),
    plural(rows.length, "row"),
  ];
  return html`<${Card} id="trend-title"
    title=${"CTR by " + name.toLowerCase() + (values.dim ? ", " + NAMES[values.dim].toLowerCase() : "")}
    aside=${html`<button disabled=${rows.length === 0}
      onClick=${() => save("trend-" + values.by, rows, "period")}>Download CSV</button>`}>
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    <${Source} data=${data}/>
    <p class="facts">${!fresh && !data ? "Reading…" : facts.join(" · ")}</p>
    ${
      rows.length > 0 &&
      html`<${Chart} label=${"CTR by " + name.toLowerCase()} summary=${facts.join(", ")} ...${plot} tip=${tip}
        pick=${step ? (i) => open(rows[i]) : null} height=${300}/>
      <${Legend} items=${[
        ["CTR", "line", "--accent"],
        ["its 95 % interval (Wilson)", "whisker", "--accent"],
        ["impressions", "bar"],
      ]}/>`
    }
    <${Table} label="Trend" columns=${columns} rows=${rows} rowKey=${(r) => r.label + r.start_ms}
      empty=${fresh ? "No events in this period." : "Reading…"}/>
  </${Card}>`;
}
