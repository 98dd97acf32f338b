// A line as small as a word: the shape of what was, its newest point marked.
import { html } from "../vendor/htm/standalone.module.js";

const WIDTH = 120;
const HEIGHT = 26;

export function Spark({ values, hollow = false, color = "--accent" }) {
  const known = values.filter((v) => v !== null && v !== undefined);
  if (known.length < 2) return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true"></svg>`;
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const x = (i) => 3 + (i * (WIDTH - 6)) / Math.max(1, values.length - 1);
  const y = (v) => (high === low ? HEIGHT / 2 : HEIGHT - 4 - ((v - low) / (high - low)) * (HEIGHT - 8));
  let path = "";
  let last = null;
  values.forEach((v, i) => {
    if (v === null || v === undefined) {
      last = null;
      return;
    }
    path += (last === null ? "M" : "L") + x(i).toFixed(1) + " " + y(v).toFixed(1);
    last = i;
  });
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" aria-hidden="true" preserveAspectRatio="none"
    style=${{ "--swatch": `var(${color})` }}>
    <path d=${path} vector-effect="non-scaling-stroke"/>
    ${last !== null && html`<path class=${hollow ? "dot hollow" : "dot"}
      d=${`M${x(last).toFixed(1)} ${y(values[last]).toFixed(1)}h0`} vector-effect="non-scaling-stroke"/>`}</svg>`;
}
