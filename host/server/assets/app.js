// Where everything begins: which page an address means, what stands around each page, and the stream that all share.
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./vendor/htm/standalone.module.js";
import { hasToken, isLocked, onLock, unlock } from "./api.js";
import { daySeconds, span } from "./format.js";
import { HealthPage } from "./health.js";
import { LettersPage } from "./letters/page.js";
import { LivePage } from "./live/page.js";
import { PipelinePage } from "./pipeline/page.js";
import { ReportsPage } from "./reports/page.js";
import { live, run, serverNow, subscribe } from "./stream.js";
import { Chip, Link, Notice } from "./text.js";
import { useLocation } from "./url.js";

const PAGES = [
  ["/", "Live", LivePage],
  ["/reports", "Reports", ReportsPage],
  ["/pipeline", "Pipeline", PipelinePage],
  ["/dead-letters", "Dead letters", LettersPage],
  ["/health", "Health", HealthPage],
];
const SPOKEN_MS = 20000;

// The few things that change of the stream, without its numbers.
function useConnection() {
  const look = () => ({
    phase: live.phase,
    why: live.why,
    skew: Math.round(live.skew / 10000) * 10000,
    paused: live.newest?.paused ?? null,
  });
  const [seen, set] = useState(look);
  useEffect(
    () =>
      subscribe(() =>
        set((old) => {
          const now = look();
          return Object.keys(now).every((name) => now[name] === old[name]) ? old : now;
        }),
      ),
    [],
  );
  return seen;
}

function Connection({ phase, why }) {
  const text = {
    connecting: "connecting…",
    live: "live",
    reading: "reading the topic…",
    lost: "connection lost",
    locked: "locked",
  }[phase];
  return html`<span id="connection" role="status" title=${why}>
    <${Chip} kind=${phase === "live" ? "good" : phase === "lost" ? "bad" : "wait"}>${text}</${Chip}></span>`;
}

function Lost({ why }) {
  const [now, set] = useState(serverNow());
  useEffect(() => {
    const timer = setInterval(() => set(serverNow()), 1000);
    return () => clearInterval(timer);
  }, []);
  const since = live.newest
    ? ` What is shown is of ${daySeconds(live.newest.at_ms)} UTC (server's clock), ${span(now - live.newest.at_ms)} ago.`
    : "";
  return html`<${Notice} kind="bad" title="Connection lost:">${why}. Trying again by itself.${since}</${Notice}>`;
}

function TokenForm() {
  const wrong = hasToken();
  const input = useRef(null);
  useEffect(() => input.current.focus(), []);
  const send = (e) => {
    e.preventDefault();
    if (input.current.value.trim()) unlock(input.current.value.trim());
  };
  return html`<form class="notice token" onSubmit=${send}><h1>This server asks for its token</h1>
    <label for="token">It is <code>server.token</code> in <code>clickmill.yaml</code>, and is kept for this tab
      only.</label>
    <div class="row"><input id="token" ref=${input} type="password" autocomplete="off" required/>
    <button class="primary">Show</button></div>
    ${wrong && html`<p role="alert" class="bad">That was not the token.</p>`}</form>`;
}

// A page that fails must not take the others with it.
function Guarded({ Page }) {
  const [error, reset] = useErrorBoundary((e) => console.error(e));
  return error
    ? html`<${Notice} kind="bad" title="This page has failed.">
      ${String(error.message)} <button class="link" onClick=${reset}>Show it again</button></${Notice}>`
    : html`<${Page}/>`;
}

function App() {
  const { path } = useLocation();
  const [shut, setShut] = useState(isLocked());
  const { phase, why, skew, paused } = useConnection();
  const [spoken, speak] = useState("");
  const main = useRef(null);
  const first = useRef(true);
  const found = PAGES.find(([at]) => at === path);
  useEffect(() => onLock(() => setShut(isLocked())), []);
  useEffect(() => {
    document.title = (found?.[1] ?? "Not here") + " · Clickmill";
    // A reader who has followed a link is told where they are.
    if (!first.current) main.current.querySelector("h1")?.focus({ preventScroll: true });
    if (!first.current) scrollTo(0, 0);
    first.current = false;
  }, [path]);
  useEffect(() => {
    const timer = setInterval(() => {
      const n = live.newest;
      if (n && !document.hidden)
        speak(
          `${Math.round(n.events_per_second)} events per second, lag ${n.lag}, the ledger ${n.balanced ? "balances"
            : "does not balance"}`,
        );
    }, SPOKEN_MS);
    return () => clearInterval(timer);
  }, []);
  return html`<a class="skip" href="#main">To the content</a>
    <header><${Link} href="/" className="brand"><img src="/assets/icon.svg" alt="" width="24"
      height="24"/>Clickmill</${Link}>
      <nav aria-label="Pages">${PAGES.map(([at,
        name]) => html`<${Link} key=${at} href=${at} current=${at === path}>${name}</${Link}>`)}</nav>
      <${Connection} phase=${phase} why=${why}/></header>
    <p class="unseen" aria-live="polite">${spoken}</p>
    <main id="main" ref=${main} tabindex="-1" class=${phase === "lost" ? "stale" : ""}>
      ${phase === "lost" && html`<${Lost} why=${why}/>`}
      ${skew !== 0 && html`<${Notice}
        title="This computer's clock is wrong, or the server's:">it is ${span(skew)} ${skew > 0 ? "ahead of"
          : "behind"} the server's. Nothing here is placed by it: times are event times, or the server's.</${Notice}>`}
      ${paused && html`<${Notice} title="The workers stand still:">${paused}. Events are stored, and wait.</${Notice}>`}
      ${shut ? html`<${TokenForm}/>` : found ? html`<${Guarded} key=${path} Page=${found[2]}/>`
        : html`<h1 tabindex="-1">Nothing is here</h1><p><${Link} href="/">To the live page</${Link}></p>`}
    </main>
    <footer><small>Cost, conversions and revenue are <em>modelled</em> from a pricing table: the data has impressions
      and clicks only. All times are UTC.${" "}
      ${!hasToken() && html`<a href="/metrics">metrics</a> · <a href="/api/status">status</a> · <a
        href="/api/openapi.json">API</a>`}</small></footer>`;
}

run();
render(html`<${App}/>`, document.getElementById("app"));
