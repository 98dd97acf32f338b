// Dead letters: what was rejected, by which rule, and sending it again where the modules take it now.
import { html, useRef, useState } from "../vendor/htm/standalone.module.js";
import { get, post, useData } from "../api.js";
import { cut, daySeconds, plural, whole } from "../format.js";
import { AddressProblems, Card, Chip, Confirm, Name, Notice, Search, Select, Table, Trouble } from "../text.js";
import { TimeField } from "../live/times.js";
import { useQuery, write } from "../url.js";
import { History } from "./history.js";
import { Letter } from "./one.js";
import { filterOf, originOf, queryOf, schema, STATE_KINDS, STATES, TYPES } from "./view.js";

const PAGE = 50;
const WAIT_MS = 5000;

// What a retry or a dry run came to.
function Outcome({ done }) {
  if (done.problem) return html`<${Trouble} problem=${done.problem}/>`;
  const { fares, sent, skipped, cut: left, outcomes, under_way: open } = done.answer;
  const still = fares.letters - fares.would_pass;
  const came = Object.entries(outcomes).map(([name, n]) => whole(n) + " " + name);
  if (open > 0) came.push(whole(open) + " under way");
  const columns = [
    { name: "Rule", cell: (r) => r.error_type + ":" + r.rule },
    { name: "Letters", n: true, cell: (r) => whole(r.letters) },
    { name: "Would pass now", n: true, cell: (r) => whole(r.would_pass) },
    {
      name: "Rejected still, by",
      cell: (r) =>
        Object.entries(r.rejected_by)
          .map(([rule, n]) => whole(n) + " " + rule)
          .join(", ") || "–",
    },
    {
      name: "For example",
      cell: (r) => html`<bdi dir="auto" class="long" title=${r.example ?? ""}>${cut(r.example ?? "–", 160)}</bdi>`,
    },
  ];
  return html`<${Notice} title=${done.dry ? "Dry run of " + done.what + ", nothing was sent:"
    : "Retry of " + done.what + ":"}>
    ${done.dry ? whole(fares.would_pass) + " of " + whole(fares.letters) + " would pass now." : plural(sent,
      "letter") + " sent again" + (came.length > 0 ? ": " + came.join(", ") : "") + (still > 0
        ? "; " + whole(still) + " would be rejected still, and stayed" : "") + "."}
    ${skipped > 0 && " " + whole(skipped) + " resolved or on their way already."}${left > 0
      && " " + whole(left) + " whose payload is not all there: retention has taken the record."}
    <${Table} label="By rule" columns=${columns} rows=${fares.by_rule} rowKey=${(r) => r.error_type + r.rule}
      empty="No letters."/></${Notice}>`;
}

export function LettersPage() {
  const { values, problems, set } = useQuery(schema);
  const [version, setVersion] = useState(0);
  const [pages, setPages] = useState({ view: "", froms: [0] });
  const [ask, setAsk] = useState(null);
  const [done, setDone] = useState(null);
  const query = queryOf(values);
  const view = JSON.stringify(query);
  const froms = pages.view === view ? pages.froms : [0];
  const at = froms[froms.length - 1];
  const list = useData(problems.length > 0 ? null : view + at + "|" + version, (signal) =>
    get("/api/dlq", { ...query, from: at, limit: PAGE }, signal),
  );
  const total = useData(problems.length > 0 ? null : view + "|" + version, (signal) =>
    get("/api/dlq/stats", query, signal),
  );
  const letters = list.data?.letters ?? [];
  const n = total.data?.letters;
  const result = useRef(null);

  const send = async (dry, which, what) => {
    try {
      setDone({ dry, what, answer: await post("/api/dlq/retry", { which, dry_run: dry, wait_ms: dry ? 0 : WAIT_MS }) });
    } catch (problem) {
      setDone({ dry, what, problem });
    }
    if (!dry) setVersion((v) => v + 1);
    result.current?.focus();
  };
  const act = (kind, which, what) =>
    kind === "dry"
      ? send(true, which, what)
      : setAsk({
          title: "Send " + what + " again?",
          yes: "Send again",
          run: () => send(false, which, what),
          text:
            "Those that the modules take now are sent into the topic again, and counted once, however often they are " +
            "sent. Those that would be rejected still stay as they are. This cannot be undone.",
        });
  const these = n === undefined ? "these letters" : plural(n, "letter");
  const columns = [
    { name: "Letter", cell: (l) => html`<button class="link" onClick=${() => set({ letter: l.id })}>${l.id}</button>` },
    { name: "State", cell: (l) => html`<${Chip} kind=${STATE_KINDS[l.state]}>${l.state}</${Chip}>` },
    { name: "Rejected (UTC)", cell: (l) => daySeconds(l.error_timestamp_ms) },
    { name: "Rule", cell: (l) => l.error_type + ":" + l.rule },
    {
      name: "Message",
      cell: (l) => html`<bdi dir="auto" class="long" title=${l.message}>${cut(l.message, 120)}</bdi>`,
    },
    { name: "Origin", cell: (l) => html`<bdi dir="auto">${cut(originOf(l.origin), 50)}</bdi>` },
    { name: "Attempts", n: true, cell: (l) => whole(l.attempts.length) },
    { name: "Payload", cell: (l) => html`<${Name} text=${l.raw_payload.slice(0, 400)} most=${50}/>` },
  ];
  const none = list.problem?.status === 404;
  return html`<h1 tabindex="-1">Dead letters</h1>
    <${AddressProblems} problems=${problems} href=${write(schema, values)}/>
    ${
      none
        ? html`<${Notice}>${list.problem.message}</${Notice}>`
        : html`
    <div ref=${result} tabindex="-1" aria-live="polite">${done && html`<${Outcome} done=${done}/>`}</div>
    ${values.letter && html`<${Letter} key=${values.letter} id=${values.letter} version=${version} act=${act}
      close=${() => set({ letter: "" })}/>`}
    ${problems.length === 0 && html`<${History} values=${values} set=${set} version=${version}/>`}
    <${Card} id="list-title" title="Letters, in order of their last change" aside=${html`<span class="row">
        <button disabled=${!n} onClick=${() => act("dry", { filter: filterOf(values) }, these)}>Dry run of ${these}
        </button>
        <button disabled=${!n} onClick=${() => act("retry", { filter: filterOf(values) },
          these)}>Retry ${these}…</button></span>`}>
      <div class="controls">
        <${Select} label="Type" value=${values.type} choices=${TYPES} onChange=${(type) => set({ type })}/>
        <${Search} label="Rule" value=${values.rule} placeholder="the whole name"
          onChange=${(rule) => set({ rule }, true)}/>
        <${Select} label="State" value=${values.state} choices=${STATES} onChange=${(state) => set({ state })}/>
        <${TimeField} label="Rejected since (UTC)" value=${values.since} onChange=${(since) => set({ since })}/>
      </div>
      <${Trouble} problem=${list.problem} stale=${list.data !== null} again=${list.again}/>
      <${Table} label="Letters" columns=${columns} rows=${letters} rowKey=${(l) => l.id}
        rowClass=${(l) => (l.id === values.letter ? "chosen" : "")} empty=${list.fresh ? "No letters." : "Reading…"}/>
      <div class="row end"><button disabled=${froms.length < 2}
        onClick=${() => setPages({ view, froms: froms.slice(0, -1) })}>Before</button>
        <button disabled=${(list.data?.next ?? null) === null}
          onClick=${() => setPages({ view, froms: [...froms, list.data.next] })}>Next ${PAGE}</button></div>
    </${Card}>`
    }
    <${Confirm} ask=${ask} close=${() => setAsk(null)}/>`;
}
