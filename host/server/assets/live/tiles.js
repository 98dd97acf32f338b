// The newest window in five numbers, and what has changed since the one before it.
import { html } from "../vendor/htm/standalone.module.js";
import { clock, cpa, cpc, ctr, dayClock, NONE, percent, plural, roas, whole } from "../format.js";
import { differ, wilson } from "../statistics.js";
import { Spark } from "./spark.js";
import { SIZE_MS } from "./view.js";

const value = {
  ctr: (w) => (w?.impressions ? w.clicks / w.impressions : null),
  cpc: (w) => (w?.clicks ? w.cost_micros / w.clicks / 1e6 : null),
  cpa: (w) => (w?.conversions ? w.cost_micros / w.conversions / 1e6 : null),
  roas: (w) => (w?.cost_micros ? w.revenue_micros / w.cost_micros : null),
  impressions: (w) => w?.impressions ?? null,
};

function changed(now, before, points) {
  if (now === null || before === null) return null;
  const by = points ? (now - before) * 100 : before === 0 ? null : (now / before - 1) * 100;
  if (by === null) return null;
  const text = Math.abs(by).toFixed(points ? 2 : 1);
  if (Number(text) === 0) return "= no change";
  return (by > 0 ? "▲ +" : "▼ −") + text + (points ? " points" : " %");
}

function Tile({ id, name, shown, change, note, modelled, values, hollow, worth }) {
  return html`<div class="tile"><h2>
    ${name}${modelled && html` <em title="The data has clicks only: cost, conversions and revenue come from a pricing table.">modelled</em>`}</h2>
    <p class="number" id=${id}>${shown}</p>
    <p class="change">${change ?? NONE}${worth && html` <span class="quiet">${worth}</span>`}</p>
    <small>${note}</small><${Spark} values=${values} hollow=${hollow}/></div>`;
}

export function Tiles({ windows, newest, size }) {
  const at = newest ? windows.findIndex((w) => w.start_ms === newest.start_ms) : -1;
  const before = at > 0 ? windows[at - 1] : null;
  const recent = windows.slice(Math.max(0, at - 29), at + 1);
  const spark = (name) => ({ values: recent.map(value[name]), hollow: newest ? !newest.final : false });
  const change = (name, points) => changed(value[name](newest), value[name](before), points);
  const bounds = newest ? wilson(newest.clicks, newest.impressions) : null;
  const apart = newest && before ? differ(newest, before) : null;
  const full = newest && (newest.final || !before);
  return html`<section aria-label="Newest window"><p class="tiles-head">${
    newest
      ? html`Newest window <b id="newest-window">
        ${dayClock(newest.start_ms)}–${clock(newest.start_ms + SIZE_MS[size])} UTC</b>
    <span class=${"chip " + (newest.final ? "good" : "wait")}>${newest.final ? "final" : "provisional"}</span>
    ${before && html`<span class="quiet">compared with ${clock(before.start_ms)}</span>`}`
      : "No window yet"
  }</p>
    <div class="tiles">
    <${Tile} id="tile-ctr" name="CTR" shown=${ctr(newest)} change=${change("ctr", true)}
      worth=${apart === false ? "within chance" : apart ? "more than chance" : ""}
      note=${bounds ? "95 %: " + percent(bounds[0]) + " to " + percent(bounds[1]) : "no impressions"}
        ...${spark("ctr")}/>
    <${Tile} id="tile-cpc" name="CPC" shown=${cpc(newest)} modelled change=${change("cpc")}
      note=${"cost per click, " + plural(newest?.clicks ?? 0, "click")} ...${spark("cpc")}/>
    <${Tile} id="tile-cpa" name="CPA" shown=${cpa(newest)} modelled change=${change("cpa")}
      note=${"cost per conversion, " + plural(newest?.conversions ?? 0, "conversion")} ...${spark("cpa")}/>
    <${Tile} id="tile-roas" name="ROAS" shown=${roas(newest)} modelled change=${change("roas")} note="revenue per cost"
      ...${spark("roas")}/>
    <${Tile} id="tile-impressions" name="Impressions" shown=${whole(newest?.impressions)}
      change=${full ? change("impressions") : "so far"}
        note=${before ? whole(before.impressions) + " at " + clock(before.start_ms) : "in this window"}
          ...${spark("impressions")}/>
  </div></section>`;
}
