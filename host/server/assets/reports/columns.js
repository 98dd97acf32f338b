// Columns that all reports have, and where their numbers come from.
import { html } from "../vendor/htm/standalone.module.js";
import { cpa, cpc, ctr, dayClock, money, NONE, percent, roas, whole } from "../format.js";
import { Notice } from "../text.js";

export const interval = (r) =>
  r.ctr_low === null || r.ctr_low === undefined ? NONE : percent(r.ctr_low) + " – " + percent(r.ctr_high);

export const metricColumns = [
  { name: "CTR", n: true, cell: ctr },
  { name: "95 % interval", n: true, cell: interval },
  { name: "Impressions", n: true, cell: (r) => whole(r.impressions) },
  { name: "Clicks", n: true, cell: (r) => whole(r.clicks) },
  { name: "Conversions", n: true, cell: (r) => whole(r.conversions), title: "modelled" },
  { name: "Cost", n: true, cell: (r) => money(r.cost_micros), title: "modelled" },
  { name: "Revenue", n: true, cell: (r) => money(r.revenue_micros), title: "modelled" },
  { name: "CPC", n: true, cell: cpc, title: "modelled" },
  { name: "CPA", n: true, cell: cpa, title: "modelled" },
  { name: "ROAS", n: true, cell: roas, title: "modelled" },
];

export function Source({ data }) {
  if (!data) return null;
  const from = { postgres: "PostgreSQL", windows: "the host's own windows" }[data.source] ?? data.source;
  return html`${data.note && html`<${Notice}>${data.note}</${Notice}>`}
    <p class="facts">${data.from_ms === null ? "From the beginning" : dayClock(data.from_ms)} to ${data.to_ms === null
      ? "the end" : dayClock(data.to_ms)}, UTC, from ${from}.${data.rows.some((r) => r.lower_bound)
        && " Some windows had more keys than are kept: numbers of single keys are lower bounds."}</p>`;
}
