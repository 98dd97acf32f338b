// How uPlot is told what to draw: scales, axes, colours and rows of numbers.
import uPlot from "./vendor/uplot/uPlot.esm.js";
import { draw } from "./chart-draw.js";
import { clock, day, whole } from "./format.js";

const HOUR_MS = 3600000;
const DAY_MS = 24 * HOUR_MS;
const FONT = "12px system-ui, sans-serif";
const BAR_SHARE = 0.26; // of the height, for the bars

const colorOf = (node, name) => getComputedStyle(node).getPropertyValue(name).trim();
const shares = (lines) => lines.flatMap((line) => [line.values, line.low ?? [], line.high ?? []]);

// Least and greatest share that is shown, with room; the intervals of a few impressions do not flatten all others.
function extent({ lines }) {
  let [low, high] = [Infinity, 0];
  for (const line of lines) {
    for (const value of line.values) {
      if (value === null || value === undefined) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  if (low === Infinity) return [0, 0.01];
  const [inner, spread] = [[low, high], Math.max(high - low, high * 0.05, 0.0005)];
  for (const list of shares(lines)) {
    for (const value of list) {
      if (value === null || value === undefined) continue;
      low = Math.min(low, Math.max(value, inner[0] - 1.5 * spread));
      high = Math.max(high, Math.min(value, inner[1] + 1.5 * spread));
    }
  }
  return [Math.max(0, low - spread * 0.1), high + spread * 0.1];
}

// Values and axis texts: shares above, counts below; each axis shows its own part only.
function scales(latest) {
  const share = () => {
    const [low, high] = extent(latest.current);
    const room = latest.current.bars ? ((high - low) * (BAR_SHARE + 0.06)) / (1 - BAR_SHARE - 0.06) : 0;
    return [low - room, high];
  };
  const most = () => (latest.current.bars?.values ?? []).reduce((top, n) => Math.max(top, n ?? 0), 1);
  const time = () => {
    const { times, from, to } = latest.current;
    if (from !== undefined && to !== undefined) return [from, to];
    const step = times.length > 1 ? times[1] - times[0] : 1;
    return times.length > 0 ? [times[0] - step / 2, times[times.length - 1] + step / 2] : [0, 1];
  };
  return {
    x: { time: false, range: time },
    share: { range: share },
    count: { range: () => [0, most() / BAR_SHARE] },
    extent: () => extent(latest.current),
    most,
  };
}

const STEPS_MS = [1, 2, 5, 10, 15, 30]
  .map((n) => n * 60000)
  .concat(
    [1, 2, 3, 6, 12].map((n) => n * HOUR_MS),
    [1, 2, 5, 10, 30, 100, 365].map((n) => n * DAY_MS),
  );

function timeAxis(latest) {
  const splits = (u, axis, min, max) => {
    const { names, times } = latest.current;
    const fits = Math.max(2, Math.floor(u.width / (names ? 56 : 76)));
    if (names) {
      const every = Math.ceil(times.length / fits);
      return times.filter((_, i) => i % every === 0);
    }
    const step = STEPS_MS.find((ms) => (max - min) / ms <= fits) ?? Math.ceil((max - min) / fits / DAY_MS) * DAY_MS;
    const found = [];
    for (let at = Math.ceil(min / step) * step; at <= max && found.length < 60; at += step) found.push(at);
    return found;
  };
  const values = (u, found) => {
    const { names, times } = latest.current;
    if (names) return found.map((at) => names[times.indexOf(at)] ?? "");
    const whole = found.length > 1 && found[1] - found[0] >= DAY_MS;
    return found.map((at, i) => {
      const date = day(at).slice(5);
      if (whole) return date;
      return i === 0 || day(found[i - 1]) !== day(at) ? clock(at) + "\n" + date : clock(at);
    });
  };
  return { splits, values };
}

// Digits behind the point of a percentage with which neighbouring steps look different and true.
function digits(step) {
  const found = [0, 1, 2, 3].find((n) => Math.abs(step * 100 * 10 ** n - Math.round(step * 100 * 10 ** n)) < 1e-6);
  return found ?? 4;
}

export function plotOptions({ node, latest, width, height, moved, drawn }) {
  const { lines, bars } = latest.current;
  const color = (name) => colorOf(node, name);
  const [quiet, grid, card] = [color("--quiet"), color("--grid"), color("--card")];
  const scale = scales(latest);
  const axis = { stroke: quiet, font: FONT, ticks: { show: false } };
  const above = (u, found) => found.map((v) => (v >= scale.extent()[0] - 1e-9 && v >= 0 ? v : null));
  const below = (u, found) => found.map((v) => (v <= scale.most() * 1.02 ? v : null));
  const shown = (u, found, i, space, step) =>
    found.map((v) => (v === null ? "" : (v * 100).toFixed(digits(step)) + " %"));
  const axes = [
    { ...axis, ...timeAxis(latest), size: 38, gap: 6, grid: { show: false } },
    {
      ...axis,
      scale: "share",
      size: 58,
      space: 34,
      filter: above,
      values: shown,
      grid: { stroke: grid, width: 1, filter: above },
    },
  ];
  if (bars)
    axes.push({
      ...axis,
      scale: "count",
      side: 1,
      size: 54,
      space: 20,
      filter: below,
      values: (u, found) => found.map((v) => (v === null ? "" : short(v))),
      grid: { show: false },
    });
  const series = [{}];
  const bands = [];
  if (bars) {
    const path = uPlot.paths.bars({ size: [0.72, 48] });
    series.push({
      label: bars.name,
      scale: "count",
      paths: path,
      fill: color("--bar"),
      stroke: color("--bar"),
      width: 0,
      points: { show: false },
    });
    series.push({
      label: bars.name,
      scale: "count",
      paths: path,
      fill: color("--bar-pale"),
      stroke: color("--bar-edge"),
      width: 1,
      points: { show: false },
    });
  }
  for (const line of lines) {
    const stroke = color(line.color);
    if (line.low && !line.whiskers) {
      const at = series.length;
      for (const name of ["high", "low"])
        series.push({
          label: line.name + " " + name,
          scale: "share",
          width: 0,
          stroke: "transparent",
          points: { show: false },
        });
      bands.push({ series: [at, at + 1], fill: color(line.color) + "26" });
    }
    series.push({
      label: line.name,
      scale: "share",
      stroke,
      width: 2,
      dash: line.dashed ? [6, 4] : undefined,
      points: { show: false },
    });
    // Settled values as full points, provisional ones as hollow ones.
    series.push({
      label: line.name,
      scale: "share",
      paths: () => null,
      points: { show: true, size: 6, width: 1, stroke, fill: stroke },
    });
    series.push({
      label: line.name,
      scale: "share",
      paths: () => null,
      points: { show: true, size: 8, width: 2, stroke, fill: card },
    });
  }
  return {
    width,
    height,
    ms: 1,
    series,
    bands,
    axes,
    scales: { x: scale.x, share: scale.share, count: scale.count },
    padding: [latest.current.marks.length > 0 ? 22 : 12, bars ? 0 : 22, 0, 0],
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, points: { show: false }, x: false, y: false },
    hooks: { setCursor: [moved], draw: [(u) => draw(u, latest.current, color), drawn] },
  };
}

const short = (n) => (n >= 1e6 ? n / 1e6 + " M" : n >= 1e4 ? n / 1e3 + " k" : whole(n));
const split = (values, hollow, wanted) => values.map((v, i) => (!!hollow?.[i] === wanted ? v : null));

// Rows of numbers in the order of the series of plotOptions.
export function plotData({ times, lines, bars }, width) {
  const rows = [times];
  if (bars) rows.push(split(bars.values, bars.pale, false), split(bars.values, bars.pale, true));
  // Points that would touch each other are a line.
  const dots = times.length * 8 <= width;
  for (const line of lines) {
    if (line.low && !line.whiskers) rows.push(line.high, line.low);
    rows.push(
      line.values,
      dots || line.whiskers ? split(line.values, line.hollow, false) : times.map(() => null),
      split(line.values, line.hollow, true),
    );
  }
  return rows;
}
