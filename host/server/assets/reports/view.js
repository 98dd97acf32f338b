// What the reports show, as their address says it.
import { count, oneOf, text, time } from "../url.js";
import { isoTime } from "../format.js";
import { csv, download } from "../csv.js";

export const EVERY_MS = 60000; // between two readings of the same report
export const REPORTS = [
  ["trend", "CTR trend"],
  ["device_type", "Devices"],
  ["site_category", "Site categories"],
  ["app_category", "App categories"],
  ["banner_pos", "Banner position"],
  ["campaign", "Campaigns"],
];
export const BYS = [
  ["hour", "Hour"],
  ["day", "Day"],
  ["hour_of_day", "Hour of day"],
  ["weekday", "Weekday"],
];
export const ORDERS = [
  ["impressions", "Impressions"],
  ["clicks", "Clicks"],
  ["ctr", "CTR"],
  ["cost", "Cost"],
];
export const NAMES = {
  total: "Everything",
  device_type: "Device type",
  site_category: "Site category",
  app_category: "App category",
  banner_pos: "Banner position",
};

export const schema = {
  report: oneOf(REPORTS.map(([name]) => name)),
  by: oneOf(BYS.map(([name]) => name)),
  from: time,
  to: time,
  dim: oneOf(Object.keys(NAMES).slice(1), ""),
  key: { ...text(10240), initial: null },
  q: text(256),
  order: oneOf(ORDERS.map(([name]) => name)),
  top: count(1, 1000, 20),
};

export function impossible(values) {
  const wrong = [];
  if (values.from !== null && values.to !== null && values.from >= values.to) {
    wrong.push({
      names: ["from", "to"],
      text: "from=" + schema.from.show(values.from) + "&to=" + schema.to.show(values.to),
      why: "a period has to begin before it ends",
    });
  }
  if ((values.dim === "") !== (values.key === null))
    wrong.push({
      names: ["dim", "key"],
      text: values.dim ? "dim=" + values.dim : "key=" + values.key,
      why: "a filter is a dimension and a key of it",
    });
  return wrong;
}

const COLUMNS = [
  "impressions",
  "clicks",
  "ctr",
  "ctr_low",
  "ctr_high",
  "conversions",
  "cost_micros",
  "revenue_micros",
  "cpc",
  "cpa",
  "roas",
  "lower_bound",
];

// The rows as they stand in the table, in its order.
export function save(name, rows, first) {
  const text = csv(
    [first, "start", ...COLUMNS],
    rows.map((row) => [
      first === "period" ? row.label : row.key,
      row.start_ms === null ? null : isoTime(row.start_ms),
      ...COLUMNS.map((column) => row[column]),
    ]),
  );
  download("clickmill-" + name + ".csv", text);
}
