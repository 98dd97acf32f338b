// Small pieces that every page is made of. All of it is text: nothing here or elsewhere writes markup from data.
import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { cut } from "./format.js";
import { navigate } from "./url.js";

// A name that comes from a producer: cut, kept apart from the direction of what stands around it, whole in the title.
export const Name = ({ text, most = 40 }) =>
  html`<bdi class=${text === "" ? "name empty" : "name"} dir="auto" title=${text === "" ? "an empty text" : text}>
    ${cut(text, most)}</bdi>`;

export const Chip = ({ kind = "", children }) => html`<span class=${"chip " + kind}>${children}</span>`;
export const Digest = ({ sha256 }) => html`<code class="digest" title=${sha256}>${(sha256 ?? "").slice(0, 12)}</code>`;

export function Notice({ kind = "", title, children }) {
  return html`<div class=${"notice " + kind} role=${kind === "bad" ? "alert" : "status"}>
    ${title && html`<strong>${title}</strong> `}${children}</div>`;
}

// What could not be read, and what to do about it.
export const Trouble = ({ problem, stale, again }) =>
  problem &&
  html`<${Notice} kind="bad" title=${stale ? "Not up to date." : "This cannot be shown."}>
  ${problem.message} ${again && html`<button class="link" onClick=${again}>Try again</button>`}</${Notice}>`;

export function Card({ title, id, aside, children, className = "" }) {
  return html`<section class=${"card " + className} aria-labelledby=${id}>
    <div class="card-head"><h2 id=${id}>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</div>
    ${children}</section>`;
}

// A choice of few, as buttons in a row.
export function Tabs({ label, value, choices, onChange }) {
  return html`<div class="tabs" role="group" aria-label=${label}>${choices.map(
    ([name, shown]) => html`
    <button key=${name} aria-pressed=${value === name ? "true" : "false"} onClick=${() => onChange(name)}>${shown}
    </button>`,
  )}</div>`;
}

export function Select({ label, value, choices, onChange, disabled }) {
  return html`<label class="field"><span>${label}</span>
    <select value=${value} disabled=${disabled} onChange=${(e) => onChange(e.target.value)}>
    ${choices.map(([name, shown]) => html`<option key=${name} value=${name} selected=${name === value}>${shown}
    </option>`)}</select></label>`;
}

// Typing changes the view a moment after the last key.
export function Search({ label, value, placeholder, onChange }) {
  const [typed, setTyped] = useState(value);
  const timer = useRef(0);
  useEffect(() => setTyped(value), [value]);
  const input = (e) => {
    const text = e.target.value;
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(text), 250);
  };
  return html`<label class="field grow"><span>${label}</span>
    <input type="search" dir="auto" maxlength="200" value=${typed} placeholder=${placeholder} onInput=${input}/>
    </label>`;
}

// A table that can be scrolled sideways with the keyboard too. `columns`: [{name, n (a number), cell(row), title}].
export function Table({ label, columns, rows, rowKey, rowClass, empty = "Nothing yet." }) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${"Table: " + label}><table>
    <thead><tr>${columns.map((c) => html`<th key=${c.id ?? c.name} scope="col" class=${c.n ? "n" : ""} title=${c.title}>
    ${c.name}</th>`)}</tr></thead>
    <tbody>${
      rows.length === 0
        ? html`<tr><td colspan=${columns.length} class="quiet">${empty}</td></tr>`
        : rows.map(
            (row, i) => html`
      <tr key=${rowKey ? rowKey(row) : i} class=${rowClass ? rowClass(row) : ""}>${columns.map((c, at) => {
        const inside = c.cell(row);
        return at === 0
          ? html`<th scope="row" key=${c.id ?? c.name} class=${c.n ? "n" : ""}>${inside}</th>`
          : html`<td key=${c.id ?? c.name} class=${c.n ? "n" : ""}>${inside}</td>`;
      })}</tr>`,
          )
    }</tbody></table></div>`;
}

// What is inside exists only while it is open: a table of a thousand rows costs nothing closed.
export function Details({ summary, open = false, children }) {
  const [shown, setShown] = useState(open);
  return html`<details open=${shown} onToggle=${(e) => setShown(e.target.open)}><summary>${summary}</summary>
    ${shown && children}</details>`;
}

// A link within the dashboard: no page is loaded anew.
export function Link({ href, children, className, current }) {
  const go = (e) => {
    if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    navigate(href);
  };
  return html`<a href=${href} class=${className} aria-current=${current ? "page" : undefined} onClick=${go}>
    ${children}</a>`;
}

// Asks before something is sent. `ask` is {title, text, yes, run} or null.
export function Confirm({ ask, close }) {
  const box = useRef(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (ask && !box.current.open) box.current.showModal();
    if (!ask && box.current.open) box.current.close();
  }, [ask]);
  const run = async () => {
    setBusy(true);
    await ask.run();
    setBusy(false);
    close();
  };
  return html`<dialog ref=${box} aria-labelledby="confirm-title" onClose=${close}>${
    ask &&
    html`
    <h2 id="confirm-title">${ask.title}</h2><p>${ask.text}</p>
    <div class="row end"><button onClick=${close} disabled=${busy}>Cancel</button>
    <button class="primary" onClick=${run} disabled=${busy}>${busy ? "Sending…" : ask.yes}</button></div>`
  }</dialog>`;
}

// What is wrong with the address, and the way out.
export function AddressProblems({ problems, href }) {
  return (
    problems.length > 0 &&
    html`<${Notice} kind="bad" title="The address asks for something that is not possible.">
    <ul>${problems.map((p) => html`<li key=${p.text}><code dir="auto">${cut(p.text, 80)}</code>: ${p.why}.</li>`)}</ul>
    <${Link} className="button" href=${href}>Show it without that</${Link}></${Notice}>`
  );
}
