// What the live page shows, as its address says it: which windows, of which time, how often renewed. Event time only:
// no clock of the browser's is asked. Pure but for the schema.
import { count, oneOf, text, texts, time } from "../url.js";
import { dayClock, whole } from "../format.js";

export const SIZE_MS = { "1m": 60000, "5m": 300000 };
export const RANGES = [
  ["30m", "30 min"],
  ["1h", "1 hour"],
  ["2h", "2 hours"],
  ["5h", "5 hours"],
  ["12h", "12 hours"],
  ["24h", "24 hours"],
  ["48h", "48 hours"],
];
export const RANGE_MS = { "30m": 18e5, "1h": 36e5, "2h": 72e5, "5h": 18e6, "12h": 432e5, "24h": 864e5, "48h": 1728e5 };
export const REFRESHES = [
  ["live", "as it comes"],
  ["5s", "every 5 s"],
  ["15s", "every 15 s"],
  ["60s", "every minute"],
];
export const REFRESH_MS = { live: 0, "5s": 5000, "15s": 15000, "60s": 60000 };
export const ORDERS = [
  ["impressions", "Impressions"],
  ["clicks", "Clicks"],
  ["ctr", "CTR"],
  ["cost", "Cost"],
];
export const DIMENSIONS = [
  ["site_category", "Site category"],
  ["app_category", "App category"],
  ["device_type", "Device type"],
  ["banner_pos", "Banner position"],
];
export const MOST_WINDOWS = 1500; // of an answer with keys, the server has as many
const OUT_OF_ORDER_MS = 10000;

export const schema = {
  tab: oneOf(["1m", "5m", "compare"]),
  range: oneOf(
    RANGES.map(([name]) => name),
    null,
  ),
  from: time,
  to: time,
  paused: time,
  refresh: oneOf(REFRESHES.map(([name]) => name)),
  dim: text(256),
  q: text(256),
  top: count(1, 50, 10),
  order: oneOf(ORDERS.map(([name]) => name)),
  key: texts(20000),
  a: time,
  b: time,
  span: oneOf(
    RANGES.map(([name]) => name),
    "1h",
  ),
};

export const dimensionOf = (values) => values.dim || "site_category";
export const dimensionName = (name) => DIMENSIONS.find(([id]) => id === name)?.[1] ?? name;
export const sizeOf = (values) =>
  values.tab === "compare" ? (RANGE_MS[values.span] > 72e5 ? "5m" : "1m") : values.tab;
export const rangeOf = (values) => values.range ?? (values.tab === "5m" ? "5h" : "1h");

// Periods that are short enough for windows of this size.
export const rangesFor = (size) => RANGES.filter(([name]) => RANGE_MS[name] / SIZE_MS[size] <= MOST_WINDOWS);

// The newest window that the stream has come to. One that a stray event of the future has opened is not it.
export function newestOf(windows, watermarkMs, size) {
  const reached =
    watermarkMs === null || watermarkMs === undefined ? Infinity : watermarkMs + OUT_OF_ORDER_MS + SIZE_MS[size];
  return windows.findLast((w) => w.start_ms < reached) ?? windows.at(-1) ?? null;
}

// Which event time is shown, [from, to) in whole windows; null before there is a window to go by.
export function periodOf(values, newest, size = sizeOf(values)) {
  const step = SIZE_MS[size];
  const end = values.to ?? values.paused ?? (newest ? newest.start_ms + step : null);
  if (end === null && values.from === null) return null;
  const from = values.from ?? end - RANGE_MS[rangeOf(values)];
  const to = end ?? from + RANGE_MS[rangeOf(values)];
  return {
    from: Math.floor(from / step) * step,
    to: Math.ceil(to / step) * step,
    follows: values.to === null && values.paused === null,
  };
}

// What no reading of single parameters finds: each is possible, together they are not.
export function impossible(values, period) {
  const step = SIZE_MS[sizeOf(values)];
  if (values.from !== null && values.to !== null && values.from >= values.to) {
    return [
      {
        names: ["from", "to"],
        text: "from=" + schema.from.show(values.from) + "&to=" + schema.to.show(values.to),
        why: "a period has to begin before it ends",
      },
    ];
  }
  if (period && values.from !== null && period.from >= period.to) {
    return [
      {
        names: ["from"],
        text: "from=" + schema.from.show(values.from),
        why: "the newest window is of " + dayClock(period.to - step) + ": nothing is after it yet",
      },
    ];
  }
  const windows = period ? (period.to - period.from) / step : 0;
  if (windows > MOST_WINDOWS) {
    return [
      {
        names: ["from", "to", "range"],
        text: windows === Infinity ? "range" : "from … to",
        why:
          "that is " +
          whole(windows) +
          " windows; " +
          whole(MOST_WINDOWS) +
          " are shown at most: choose a shorter period, or 5 min windows",
      },
    ];
  }
  return [];
}

// The windows of a period at their places, null where there was none.
export function grid(windows, { from, to }, step) {
  const at = new Map(windows.map((w) => [w.start_ms, w]));
  const found = [];
  for (let start = from; start < to && found.length <= MOST_WINDOWS; start += step) found.push(at.get(start) ?? null);
  return found;
}
