// Reports: how CTR was over time, and how it differs between the keys of a dimension; each with its interval.
import { html } from "../vendor/htm/standalone.module.js";
import { AddressProblems, Card, Name, Notice, Search, Select, Tabs } from "../text.js";
import { dayClock } from "../format.js";
import { useQuery, write } from "../url.js";
import { TimeField } from "../live/times.js";
import { Breakdown } from "./breakdown.js";
import { Trend } from "./trend.js";
import { BYS, impossible, NAMES, ORDERS, REPORTS, schema } from "./view.js";

const LIMITS = [10, 20, 50, 200, 1000];

function Controls({ values, set }) {
  const trend = values.report === "trend";
  const tops = [...new Set([...LIMITS, values.top])].sort((a, b) => a - b).map((n) => [String(n), "top " + n]);
  return html`<div class="controls">
    <${TimeField} label="From (UTC)" value=${values.from} onChange=${(from) => set({ from })}/>
    <${TimeField} label="To (UTC)" value=${values.to} onChange=${(to) => set({ to })}/>
    ${
      trend
        ? html`<${Select} label="By" value=${values.by} choices=${BYS} onChange=${(by) => set({ by })}/>`
        : html`
      <${Search} label="Search keys" value=${values.q} placeholder="part of a key" onChange=${(q) => set({ q }, true)}/>
      <${Select} label="Order" value=${values.order} choices=${ORDERS} onChange=${(order) => set({ order })}/>
      <${Select} label="Keys" value=${String(values.top)} choices=${tops} onChange=${(n) => set({ top: Number(n) })}/>`
    }
    ${(values.from !== null || values.to !== null)
      && html`<button onClick=${() => set({ from: null, to: null })}>Whole time</button>`}
  </div>`;
}

// What is left out of the trend, and how to take it away again.
function Filter({ values, set }) {
  if (values.key === null) return null;
  return html`<p class="filter">Only ${NAMES[values.dim].toLowerCase()} <${Name} text=${values.key}/> <button
    onClick=${() => set({ dim: "", key: null })}>Remove filter</button></p>`;
}

function Campaigns() {
  return html`<${Card} id="campaign-title" title="Campaign performance">
    <${Notice} title="There are no campaign figures yet.">They come from the daily marts in
      PostgreSQL's <code>analytics</code> schema, which the daily batch fills. The windows that all other reports read
        keep five dimensions, and a campaign is none of them. Until the marts exist there is nothing to show here, and
          nothing is estimated in their place.</${Notice}>
    <p class="facts">What is there today: the other reports, for every period that is kept.</p></${Card}>`;
}

export function ReportsPage() {
  const { values, problems, set } = useQuery(schema);
  const wrong = [...problems, ...impossible(values)];
  const way = write(schema, {
    ...values,
    ...Object.fromEntries(wrong.flatMap((p) => p.names).map((name) => [name, schema[name].initial])),
  });
  const period =
    values.from === null && values.to === null
      ? "the whole time"
      : (values.from === null ? "the beginning" : dayClock(values.from)) +
        " to " +
        (values.to === null ? "the end" : dayClock(values.to));
  return html`<h1 tabindex="-1">Reports <small>of ${period}</small></h1>
    <div class="toolbar"><${Tabs} label="Report" value=${values.report} choices=${REPORTS}
      onChange=${(report) => set({ report, q: "" })}/></div>
    <${AddressProblems} problems=${wrong} href=${way}/>
    ${
      wrong.length === 0 &&
      html`${values.report !== "campaign" && html`<${Controls} values=${values} set=${set}/>`}
      <${Filter} values=${values} set=${set}/>
      ${values.report === "trend" ? html`<${Trend} values=${values} set=${set}/>` : values.report === "campaign"
        ? html`<${Campaigns}/>` : html`<${Breakdown} values=${values} set=${set}/>`}`
    }`;
}
