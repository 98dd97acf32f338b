// How fast counters rise: between two looks at them, by this page's own steady clock.
import { useEffect, useRef, useState } from "../vendor/htm/standalone.module.js";

const SPAN_MS = 10000;

// Name -> rise a second over the last ten seconds; nothing is known after the first look. `counters` is a new object
// at each look.
export function useRates(counters) {
  const looks = useRef([]);
  const [rates, set] = useState({});
  useEffect(() => {
    if (!counters) return;
    const now = performance.now();
    looks.current.push([now, counters]);
    while (looks.current.length > 2 && looks.current[1][0] < now - SPAN_MS) looks.current.shift();
    const [then, before] = looks.current[0];
    if (now - then < 500) return;
    // A counter that has fallen was begun anew: its host was.
    set(
      Object.fromEntries(
        Object.entries(counters)
          .filter(([name, n]) => n >= (before[name] ?? Infinity))
          .map(([name, n]) => [name, ((n - before[name]) * 1000) / (now - then)]),
      ),
    );
  }, [counters]);
  return rates;
}

// Sums of one metric by one of its labels, from Prometheus's text.
export function sumsBy(text, metric, label) {
  const sums = {};
  for (const line of text.split("\n")) {
    if (!line.startsWith(metric + "{")) continue;
    const name = new RegExp(label + '="((?:[^"\\\\]|\\\\.)*)"').exec(line)?.[1];
    const value = Number(line.slice(line.lastIndexOf(" ") + 1));
    if (name !== undefined && Number.isFinite(value)) sums[name] = (sums[name] ?? 0) + value;
  }
  return sums;
}
