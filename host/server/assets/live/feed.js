// What the live page draws from: the stream as of the last refresh, and windows that lie before what the stream keeps.
import { useEffect, useMemo, useRef, useState } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { live, subscribe } from "../stream.js";
import { SIZE_MS } from "./view.js";

const look = () => ({
  newest: live.newest,
  windows: { ...live.windows },
  marks: live.marks,
  snapshots: live.snapshots,
  changes: live.changes,
});

// The stream's newest picture, taken as often as `every` says (0: whenever something comes), and not while paused.
export function useFeed(every, paused) {
  const [seen, setSeen] = useState(look);
  const last = useRef(0);
  useEffect(() => {
    let timer = 0;
    const draw = () => {
      last.current = performance.now();
      setSeen(look());
    };
    const tick = () => {
      clearTimeout(timer);
      if (live.newest === null || (paused && last.current > 0)) return;
      const wait = last.current === 0 ? 0 : every - (performance.now() - last.current);
      if (wait <= 0) draw();
      else timer = setTimeout(draw, wait);
    };
    const off = subscribe(tick);
    tick();
    return () => {
      off();
      clearTimeout(timer);
    };
  }, [every, paused]);
  return seen;
}

const ofRow = (row) => ({
  start_ms: Date.parse(row.window_start),
  impressions: row.impressions,
  clicks: row.clicks,
  conversions: row.conversions,
  cost_micros: row.cost_micros,
  revenue_micros: row.revenue_micros,
  final: row.final,
  corrected: null,
  late: null,
});

// The windows of the dimension `total` within a period. Those that the stream does not keep are asked for once, and
// again after each snapshot (before it, something may have been missed) and as the period moves on.
export function useTotals(feed, size, period) {
  const step = SIZE_MS[size];
  const kept = feed.windows[size];
  const covered = !period || (kept.length > 0 && kept[0].start_ms <= period.from);
  const moved = period?.follows
    ? Math.floor(period.to / (60 * step)) + "|" + (period.to - period.from)
    : period?.from + "|" + period?.to;
  const key = covered ? null : [size, moved, feed.snapshots].join("|");
  const older = useData(key, async (signal) =>
    (await get("/api/windows", { size, dimension: "total", from: period.from, to: period.to }, signal)).windows.map(
      ofRow,
    ),
  );
  const windows = useMemo(() => {
    if (!period) return [];
    const all = new Map((older.data ?? []).map((w) => [w.start_ms, w]));
    for (const w of kept) all.set(w.start_ms, w);
    return [...all.values()]
      .filter((w) => w.start_ms >= period.from && w.start_ms < period.to)
      .sort((a, b) => a.start_ms - b.start_ms);
  }, [older.data, kept, period?.from, period?.to]);
  return { windows, problem: older.problem, loading: key !== null && !older.fresh, again: older.again };
}
