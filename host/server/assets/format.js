// How numbers, times and texts look on every page. Pure. Ratios are computed from integers and rounded half up, so a
// number on the screen is the one that `clickmill windows` prints, rounded.

const NBSP = "\u00a0";
export const NONE = "–";
const grouped = new Intl.NumberFormat("en");

export const whole = (n) => (n === null || n === undefined ? NONE : grouped.format(n));

// numerator / denominator with so many digits behind the point; a divisor of 0 has no ratio.
export function ratio(numerator, denominator, digits) {
  if (numerator === null || numerator === undefined || !denominator) return NONE;
  const [n, d] = [BigInt(numerator) * 10n ** BigInt(digits), BigInt(denominator)];
  const negative = n < 0n !== d < 0n && n !== 0n;
  const [up, down] = [n < 0n ? -n : n, d < 0n ? -d : d];
  return point((2n * up + down) / (2n * down), digits, negative);
}

function point(scaled, digits, negative) {
  const text = scaled.toString().padStart(digits + 1, "0");
  const head = grouped.format(BigInt(text.slice(0, text.length - digits)));
  return (negative ? "−" : "") + head + (digits > 0 ? "." + text.slice(-digits) : "");
}

// Sums of a window, of a key or of a period: what the four ratios are made of.
export const ctr = (m, digits = 2) =>
  m && m.impressions ? ratio(m.clicks * 100, m.impressions, digits) + NBSP + "%" : NONE;
export const cpc = (m, digits = 4) =>
  m && m.clicks ? ratio(m.cost_micros, BigInt(m.clicks) * 1000000n, digits) : NONE;
export const cpa = (m, digits = 4) =>
  m && m.conversions ? ratio(m.cost_micros, BigInt(m.conversions) * 1000000n, digits) : NONE;
export const roas = (m, digits = 4) => (m && m.cost_micros ? ratio(m.revenue_micros, m.cost_micros, digits) : NONE);
export const money = (micros, digits = 2) => ratio(micros, 1000000, digits);

// A share that is no quotient of integers, as the bounds of an interval: 0.1719 is "17.19 %".
export const percent = (share, digits = 2) =>
  share === null || share === undefined ? NONE : (share * 100).toFixed(digits) + NBSP + "%";

export const METRICS = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
export const sum = (list) => {
  const total = Object.fromEntries(METRICS.map((name) => [name, 0]));
  for (const item of list) for (const name of METRICS) total[name] += item[name];
  return total;
};

const inRange = (ms) => ms !== null && ms !== undefined && Math.abs(ms) <= 8.64e15;
const iso = (ms) => new Date(ms).toISOString();
export const isoTime = (ms) => (inRange(ms) ? iso(ms).replace(/\.000Z$/, "Z") : NONE);
export const day = (ms) => (inRange(ms) ? iso(ms).slice(0, -14) : NONE);
export const clock = (ms) => (inRange(ms) ? iso(ms).slice(-13, -8) : NONE);
export const seconds = (ms) => (inRange(ms) ? iso(ms).slice(-13, -5) : NONE);
export const dayClock = (ms) => (inRange(ms) ? day(ms) + NBSP + clock(ms) : NONE);
export const daySeconds = (ms) => (inRange(ms) ? day(ms) + NBSP + seconds(ms) : NONE);

export function span(ms) {
  if (ms === null || ms === undefined) return NONE;
  const s = Math.round(Math.abs(ms) / 1000);
  if (s < 100) return s + NBSP + "s";
  if (s < 6000) return Math.round(s / 60) + NBSP + "min";
  if (s < 360000)
    return (
      Math.floor(s / 3600) + NBSP + "h" + NBSP + String(Math.floor((s % 3600) / 60)).padStart(2, "0") + NBSP + "min"
    );
  return Math.round(s / 86400) + NBSP + "days";
}

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; n >= 1024 && unit < units.length - 1; unit++) n /= 1024;
  return (unit === 0 ? n : n.toFixed(1)) + NBSP + units[unit];
}

export const rate = (n) => (n === null || n === undefined ? NONE : n >= 100 ? whole(Math.round(n)) : n.toFixed(1));
export const plural = (n, one, many = one + "s") => whole(n) + NBSP + (n === 1 ? one : many);

// Characters that would break a line or stay unseen, as JSON writes them.
const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
export const visible = (text) =>
  text.replace(/[\u0000-\u001f\u007f]/g, (c) => ESCAPES[c] ?? "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));
// The same, with the lines that the text has.
export const lines = (text) =>
  text
    .split("\n")
    .map((line) => line.split("\t").map(visible).join("\t"))
    .join("\n");

// A name that comes from a producer, short enough to be shown; whole characters only.
export function cut(text, most = 40) {
  if (text === "") return "(empty)";
  const characters = Array.from(text.slice(0, 2 * most + 2));
  return visible(characters.length <= most ? text : characters.slice(0, most - 1).join("") + "…");
}
