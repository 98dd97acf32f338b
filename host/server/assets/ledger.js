// The equation that says whether anything was lost, and where the stream is.
import { html } from "./vendor/htm/standalone.module.js";
import { daySeconds, plural, rate, whole } from "./format.js";
import { Card, Chip, Name } from "./text.js";

const FATES = ["counted", "rejected", "late", "dropped", "waiting"];

export function Ledger({ newest }) {
  if (!newest) return null;
  const ledger = newest.ledger;
  const reasons = [
    ...Object.entries(ledger.rejected_by_rule ?? {}).map(([why, n]) => ["rejected", why, n]),
    ...Object.entries(ledger.dropped_by_reason ?? {}).map(([why, n]) => ["dropped", why, n]),
  ].sort((a, b) => b[2] - a[2]);
  return html`<${Card} id="ledger-title" title="Ledger"
    aside=${html`<${Chip} kind=${newest.balanced ? "good" : "bad"}>
      ${newest.balanced ? "it balances" : "it does not balance"}</${Chip}>`}>
    <p class="equation"><span><b id="produced">${whole(ledger.produced)}</b> produced</span>
    ${FATES.map((fate, i) => html`<i key=${fate + "i"}>${i === 0 ? "=" : "+"}</i><span key=${fate}><b id=${fate}>
    ${whole(ledger[fate])}</b> ${fate}</span>`)}</p>
    ${!newest.balanced && html`<p class="facts bad">Records are unaccounted for: each has to have exactly one fate. Look
      at /api/status, partition by partition, before anything is restarted.</p>`}
    ${reasons.length > 0 && html`<ul class="reasons">
    ${reasons.slice(0, 12).map(([fate, why,
      n]) => html`<li key=${fate + why}>${fate}: <${Name} text=${why}/> ${whole(n)}</li>`)}</ul>`}
    <p class="facts">${rate(newest.events_per_second)} events/s · lag ${plural(newest.lag,
      "event")} · watermark ${daySeconds(newest.watermark_ms)} UTC (the slowest partition's)</p>
  </${Card}>`;
}
