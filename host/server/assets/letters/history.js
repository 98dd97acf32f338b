// How many letters came when, by the rule that rejected them. The server counts letters since a time; what came between
// two times is the difference of two counts.
import { html } from "../vendor/htm/standalone.module.js";
import { get, useData } from "../api.js";
import { dayClock, daySeconds, NONE, plural, span, whole } from "../format.js";
import { Legend } from "../chart.js";
import { Card, Chip, Name, Table, Trouble } from "../text.js";
import { queryOf, STATE_KINDS } from "./view.js";

const BUCKETS = 20;
const COLORS = ["--k1", "--k2", "--k3", "--k4", "--k5", "--k6"];
const EVERY_MS = 30000;
const nameOf = (rule) => rule.error_type + ":" + rule.rule;

async function load(query, signal) {
  const stats = await get("/api/dlq/stats", query, signal);
  const times = stats.by_rule.flatMap((r) => [Date.parse(r.oldest), Date.parse(r.newest)]);
  if (times.length === 0) return { stats, starts: [], counts: [] };
  const from = Math.min(...times);
  const width = Math.max(1000, Math.ceil((Math.max(...times) + 1 - from) / BUCKETS / 1000) * 1000);
  const starts = Array.from({ length: BUCKETS }, (_, i) => from + i * width);
  const since = [stats];
  for (const start of starts.slice(1)) since.push(await get("/api/dlq/stats", { ...query, since: start }, signal));
  const byRule = since.map((s) => new Map(s.by_rule.map((r) => [nameOf(r), r.letters])));
  const counts = starts.map(
    (_, i) =>
      new Map(
        [...byRule[0].keys()].map((name) => [name, (byRule[i].get(name) ?? 0) - (byRule[i + 1]?.get(name) ?? 0)]),
      ),
  );
  return { stats, starts, counts, width };
}

function Histogram({ data, rules }) {
  const totals = data.counts.map((bucket) => [...bucket.values()].reduce((n, m) => n + m, 0));
  const most = Math.max(1, ...totals);
  const said =
    "Dead letters over time: " +
    plural(
      totals.reduce((n, m) => n + m, 0),
      "letter",
    ) +
    " from " +
    daySeconds(data.starts[0]) +
    ", at most " +
    whole(most) +
    " in " +
    span(data.width);
  return html`<svg class="histogram" role="img" aria-label=${said}>${data.counts.map((bucket, i) => {
    let top = 100;
    return rules.map((rule, at) => {
      const n = bucket.get(nameOf(rule)) ?? 0;
      if (n <= 0) return null;
      const height = Math.max(0.8, (n / most) * 96);
      top -= height;
      return html`<rect key=${i + nameOf(rule)} x=${(i * 100) / BUCKETS + 0.4 + "%"} width=${100 / BUCKETS - 0.8 + "%"}
        y=${top + "%"} height=${height + "%"} style=${{ fill: `var(${COLORS[Math.min(at, COLORS.length - 1)]})` }}/>`;
    });
  })}</svg>
  <div class="histogram-axis"><span>${daySeconds(data.starts[0])}</span>
  <span>at most ${whole(most)} in ${span(data.width)}</span><span>
  ${daySeconds(data.starts[0] + BUCKETS * data.width)} UTC</span></div>`;
}

export function History({ values, set, version }) {
  const query = queryOf({ ...values, rule: "", type: "" });
  const { data, problem, fresh, again } = useData(
    JSON.stringify(query) + version,
    (signal) => load(query, signal),
    EVERY_MS,
  );
  const rules = [...(data?.stats.by_rule ?? [])].sort((a, b) => b.letters - a.letters);
  const chosen = (r) => r.rule === values.rule && r.error_type === values.type;
  const columns = [
    {
      name: "Rule",
      cell: (r) =>
        html`<button class="link" onClick=${() => set(chosen(r) ? { rule: "", type: "" }
          : { rule: r.rule, type: r.error_type, letter: "" })} aria-pressed=${undefined}>
            ${r.error_type}:<${Name} text=${r.rule}/></button>`,
    },
    { name: "Letters", n: true, cell: (r) => whole(r.letters) },
    ...Object.keys(STATE_KINDS).map((state) => ({ name: state, n: true, cell: (r) => whole(r.by_state[state] ?? 0) })),
    { name: "Oldest (UTC)", cell: (r) => dayClock(Date.parse(r.oldest)) },
    { name: "Newest (UTC)", cell: (r) => dayClock(Date.parse(r.newest)) },
  ];
  return html`<${Card} id="history-title" title="By rule over time"
    aside=${data && html`<${Chip}>${plural(data.stats.letters, "letter")}</${Chip}>`}>
    <${Trouble} problem=${problem} stale=${data !== null} again=${again}/>
    ${
      data &&
      data.starts.length > 0 &&
      html`<${Histogram} data=${data} rules=${rules}/>
      <${Legend} items=${[...rules.slice(0, 5).map((r, i) => [nameOf(r), "square", COLORS[i]]), ...(rules.length > 5
        ? [["others", "square", COLORS[5]]] : [])]}/>`
    }
    <${Table} label="Rules" columns=${columns} rows=${rules} rowKey=${nameOf}
      rowClass=${(r) => (chosen(r) ? "chosen" : "")} empty=${fresh ? "No dead letters." : NONE}/>
  </${Card}>`;
}
