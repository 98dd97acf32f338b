// The live page: newest window, all windows of the period, keys of a dimension; or two periods against each other.
import { html, useState } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { AddressProblems, Notice, Select, Tabs } from "../text.js";
import { dayClock } from "../format.js";
import { useQuery, write } from "../url.js";
import { Compare } from "./compare.js";
import { DimensionCard } from "./dimension.js";
import { useFeed, useTotals } from "./feed.js";
import { Ledger } from "../ledger.js";
import { Tiles } from "./tiles.js";
import { TimeField } from "./times.js";
import { TotalCard } from "./total.js";
import {
  impossible,
  newestOf,
  periodOf,
  rangeOf,
  rangesFor,
  REFRESH_MS,
  REFRESHES,
  schema,
  SIZE_MS,
  sizeOf,
} from "./view.js";

const TABS = [
  ["1m", "1 min"],
  ["5m", "5 min"],
  ["compare", "Compare two periods"],
];
const CONNECTORS_MS = 10000;

// PostgreSQL is of no use to this page; whoever comes from the reports wants to know all the same.
function DatabaseDown() {
  const { data } = useData("connectors", (signal) => get("/api/connectors", {}, signal), CONNECTORS_MS);
  const down = (data?.connectors ?? []).filter(
    (c) =>
      c.wanted && c.type.startsWith("postgres") && c.sinks.some((s) => s.state !== "running" && s.state !== "starting"),
  );
  return (
    down.length > 0 &&
    html`<${Notice}>PostgreSQL is not written to at the moment (${down.map((c) => c.name).join(", ")}). This page goes
      on: its numbers come from the host itself. Reports may lag until it is back.</${Notice}>`
  );
}

function Toolbar({ values, set, period }) {
  const [custom, setCustom] = useState(false);
  const fixed = values.from !== null || values.to !== null;
  const range = (name) => {
    if (name === "custom") {
      setCustom(true);
      if (period) set({ from: period.from, to: period.to });
    } else {
      setCustom(false);
      set({ range: name === rangeOf({ ...values, range: null }) ? null : name, from: null, to: null });
    }
  };
  // A period that is too long for the windows of the other tab is not taken along.
  const show = (tab) => {
    const fits = rangesFor(tab === "compare" ? "5m" : tab).some(([name]) => name === values.range);
    set({ tab, range: fits ? values.range : null });
  };
  const pause = () => set({ paused: values.paused === null ? (period?.to ?? null) : null });
  return html`<div class="toolbar">
    <${Tabs} label="View" value=${values.tab} choices=${TABS} onChange=${show}/>
    ${
      values.tab !== "compare" &&
      html`<${Select} label="Period" value=${fixed || custom ? "custom" : rangeOf(values)}
        choices=${[...rangesFor(sizeOf(values)), ["custom", "from … to"]]} onChange=${range}/>
    ${(fixed || custom) && html`<${TimeField} label="From (UTC)" value=${period?.from}
      onChange=${(from) => set({ from })}/><${TimeField} label="To (UTC)" value=${values.to ?? period?.to}
        onChange=${(to) => set({ to })}/>`}`
    }
    <${Select} label="Refresh" value=${values.refresh} choices=${REFRESHES} onChange=${(refresh) => set({ refresh })}/>
    <button class="pause" aria-pressed=${values.paused !== null ? "true" : "false"}
      disabled=${!period && values.paused === null} onClick=${pause}>${values.paused === null ? "Pause" : "Resume"}
        </button>
  </div>`;
}

export function LivePage() {
  const { values, problems, set } = useQuery(schema);
  const paused = values.paused !== null;
  const every = REFRESH_MS[values.refresh];
  const feed = useFeed(every, paused);
  const size = sizeOf(values);
  const kept = feed.windows[size];
  const reached = newestOf(kept, feed.newest?.watermark_ms, size);
  const period = periodOf(values, reached, size);
  const wrong = [...problems, ...impossible(values, values.tab === "compare" ? null : period)];
  const possible = wrong.length === 0;
  const totals = useTotals(feed, size, possible && values.tab !== "compare" ? period : null);
  const newest = period?.follows ? reached : (totals.windows.at(-1) ?? null);
  const ahead = reached ? kept.filter((w) => w.start_ms > reached.start_ms).length : 0;
  const way = write(schema, {
    ...values,
    ...Object.fromEntries(wrong.flatMap((p) => p.names).map((name) => [name, schema[name].initial])),
  });
  const empty = feed.newest !== null && kept.length === 0 && !totals.loading && totals.windows.length === 0;
  return html`<h1 class="unseen" tabindex="-1">Live</h1>
    <${Toolbar} values=${values} set=${set} period=${possible ? period : null}/>
    <${AddressProblems} problems=${wrong} href=${way}/>
    <${DatabaseDown}/>
    ${paused && html`<${Notice} title="Paused.">The view stands at ${dayClock(values.paused)} UTC. <button class="link"
      onClick=${() => set({ paused: null })}>Go on</button></${Notice}>`}
    ${possible && empty && html`<${Notice}
      title="No windows yet.">Events become windows as they are sent: <code>clickmill produce FILE</code>, or POST them
        to <code>/api/topics/ad_events_raw/records</code>.</${Notice}>`}
    ${possible && values.tab === "compare"
      && html`<${Compare} values=${values} set=${set} feed=${feed} newest=${reached}/>`}
    ${
      possible &&
      values.tab !== "compare" &&
      html`
      <${Tiles} windows=${totals.windows} newest=${newest} size=${size}/>
      <${TotalCard} totals=${totals} period=${period} size=${size} marks=${feed.marks}
        ahead=${period?.follows ? ahead : 0}/>
      <${DimensionCard} values=${values} set=${set} size=${size} period=${period} feed=${feed} every=${every}
        finalBefore=${feed.newest?.final_before_ms ?? null}/>`
    }
    <${Ledger} newest=${feed.newest}/>`;
}
