// A chart over time: ratios as lines with their intervals, counts as bars below them, marks on the axis. uPlot draws;
// what can be pointed at (marks, values) are elements of the page, so a keyboard and a screen reader reach it.
import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import uPlot from "./vendor/uplot/uPlot.esm.js";
import { clusters } from "./chart-draw.js";
import { plotData, plotOptions } from "./chart-parts.js";
import { Marks } from "./marks.js";

const dark = matchMedia("(prefers-color-scheme: dark)");

// `times`: where each value stands, in milliseconds (or plain numbers with `x` given as {values, names}).
// `lines`: [{name, color, values, low, high, hollow, whiskers, dashed}], shares of one;
// `bars`: {name, values, pale, flags}.
// `tip(i)`: lines of text about one place, [[name, text]]. `pick(i)`: what a click there does.
export function Chart({
  label,
  summary,
  times,
  lines,
  bars = null,
  marks = [],
  names = null,
  tip,
  pick,
  height = 260,
  places = 0,
  from,
  to,
}) {
  const box = useRef(null);
  const plot = useRef(null);
  const latest = useRef({});
  const [at, setAt] = useState(null);
  const [flags, setFlags] = useState([]);
  const [theme, setTheme] = useState(dark.matches);
  latest.current = { times, lines, bars, marks, names, places, from, to, pick };

  useEffect(() => {
    const changed = () => setTheme(dark.matches);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);

  // Lines that come or go, and the theme, need another plot; other numbers do not.
  const shape = [
    theme,
    height,
    names !== null,
    bars !== null,
    ...lines.map((l) => l.name + l.color + !!l.low + !!l.whiskers + !!l.dashed),
  ].join("|");
  useLayoutEffect(() => {
    const node = box.current;
    const moved = (u) => {
      const i = u.cursor.idx;
      const next =
        i === null || i === undefined || u.cursor.left < 0
          ? null
          : { i, left: u.valToPos(u.data[0][i], "x") + u.over.offsetLeft };
      setAt((old) => (old?.i === next?.i && old?.left === next?.left ? old : next));
    };
    const drawn = (u) =>
      setFlags((old) => {
        const next = clusters(u, latest.current.marks);
        return JSON.stringify(old) === JSON.stringify(next) ? old : next;
      });
    const width = () => Math.max(240, Math.floor(node.clientWidth));
    const options = plotOptions({ node, latest, width: width(), height, moved, drawn });
    plot.current = new uPlot(options, plotData(latest.current, width()), node);
    const canvas = node.querySelector("canvas");
    canvas.setAttribute("role", "img");
    plot.current.over.addEventListener("click", () => {
      const i = plot.current.cursor.idx;
      if (latest.current.pick && i !== null && i !== undefined) latest.current.pick(i);
    });
    const observer = new ResizeObserver(
      () => plot.current && plot.current.width !== width() && plot.current.setSize({ width: width(), height }),
    );
    observer.observe(node);
    return () => {
      observer.disconnect();
      plot.current.destroy();
      plot.current = null;
    };
  }, [shape]);

  useLayoutEffect(() => {
    plot.current?.setData(plotData(latest.current, plot.current.width));
  }, [times, lines, bars, marks, from, to]);
  useLayoutEffect(() => {
    box.current.querySelector("canvas")?.setAttribute("aria-label", label + ". " + summary);
  }, [label, summary, shape]);

  const last = times.length - 1;
  const key = (e) => {
    const here = at ? at.i : last;
    const there = { ArrowLeft: at ? here - 1 : last, ArrowRight: at ? here + 1 : 0, Home: 0, End: last }[e.key];
    if (e.key === "Escape") setAt(null);
    if (e.key === "Enter" && pick && at) pick(at.i);
    if (there === undefined || last < 0) return;
    e.preventDefault();
    const i = Math.max(0, Math.min(last, there));
    setAt({ i, left: plot.current.valToPos(times[i], "x") + plot.current.over.offsetLeft });
  };
  const shown = at && at.i <= last ? tip(at.i) : null;
  const side =
    at && box.current && at.left > box.current.clientWidth / 2
      ? { right: box.current.clientWidth - at.left + 12 + "px" }
      : { left: (at?.left ?? 0) + 12 + "px" };
  return html`<div class="chart">
    <div class=${"plot" + (pick ? " picks" : "")} tabindex="0" role="group"
      aria-label=${label + ": arrow keys read the values" + (pick ? ", Enter opens one" : "")} onKeyDown=${key}
        onBlur=${() => setAt(null)}>
      <div class="canvas" ref=${box} style=${{ height: height + "px" }}></div>
      ${
        shown &&
        html`<div class="needle" style=${{ left: at.left + "px" }}></div><div class="tip" style=${side}>
        ${shown.map(([name, text, kind],
          i) => html`<div key=${name + i} class=${kind ?? ""}><span>${name}</span><b>${text}</b></div>`)}</div>`
      }
      <p class="unseen" aria-live="polite">${shown ? shown.map(([name, text]) => name + " " + text).join(", ") : ""}</p>
    </div>
    ${flags.length > 0 && html`<${Marks} flags=${flags} width=${box.current?.clientWidth ?? 0}/>`}
  </div>`;
}

// What the colours and shapes mean.
export const Legend = ({ items }) =>
  html`<ul class="legend">${items.map(
    ([name, kind, color]) => html`
  <li key=${name + kind}><i class=${"swatch " + kind} style=${color ? { "--swatch": `var(${color})` } : {}}></i>
  <bdi dir="auto" title=${name}>${name}</bdi></li>`,
  )}</ul>`;
