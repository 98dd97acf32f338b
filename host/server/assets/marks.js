// Deployments and incidents on the time axis: a flag each, with its text when it is pointed at or focused.
import { html, useState } from "./vendor/htm/standalone.module.js";
import { cut, daySeconds, NONE } from "./format.js";
import { Table } from "./text.js";

export const KINDS = {
  deployment: ["D", "Deployment"],
  rollback: ["R", "Rollback"],
  breaker: ["B", "Breaker tripped"],
  verdict: ["V", "Record refused by the sandbox"],
  gap: ["G", "Gap in the log"],
  advance: ["A", "Idle partition's watermark advanced"],
  pause: ["P", "Pause"],
};
const GRAVE = ["breaker", "gap", "verdict", "rollback"];
export const named = (kind) => KINDS[kind]?.[1] ?? kind;
export const gravest = (items) => GRAVE.find((kind) => items.some((mark) => mark.kind === kind)) ?? items[0].kind;
const said = (mark) => named(mark.kind) + (mark.text ? ": " + cut(mark.text, 160) : "");

function Flag({ flag, width }) {
  const [open, setOpen] = useState(false);
  const kind = gravest(flag.items);
  const grave = GRAVE.includes(kind);
  const words = flag.items.slice(0, 6).map((mark) => daySeconds(mark.at_ms) + " " + said(mark));
  if (flag.items.length > 6) words.push("and " + (flag.items.length - 6) + " more; see the list below the chart");
  const side = flag.left > width / 2 ? { right: "0" } : { left: "0" };
  return html`<span class="flag" style=${{ left: flag.left + "px" }}>
    <button class=${grave ? "grave" : ""} aria-label=${words.join("; ")} onMouseEnter=${() => setOpen(true)}
      onMouseLeave=${() => setOpen(false)}
      onFocus=${() => setOpen(true)} onBlur=${() => setOpen(false)} onClick=${() => setOpen(true)}
        onKeyDown=${(e) => e.key === "Escape" && setOpen(false)}
      >${flag.items.length > 1 ? flag.items.length : (KINDS[kind]?.[0] ?? "?")}</button>
    ${open && html`<span class="flag-text" role="tooltip" style=${side}>
    ${words.map((line, i) => html`<span key=${i} dir="auto">${line}</span>`)}</span>`}
  </span>`;
}

export const Marks = ({ flags, width }) =>
  html`<div class="flags">${flags.map((flag) => html`<${Flag} key=${flag.items[0].at_ms + flag.items[0].kind}
    flag=${flag} width=${width}/>`)}</div>`;

// The same as a list.
export function MarkList({ marks }) {
  const columns = [
    { name: "Event time (UTC)", cell: (m) => daySeconds(m.at_ms) },
    { name: "What", cell: (m) => named(m.kind) },
    { name: "Text", cell: (m) => html`<bdi dir="auto" title=${m.text}>${cut(m.text ?? "", 200)}</bdi>` },
    { name: "Deployment", n: true, cell: (m) => m.deployment ?? NONE },
    { name: "Wall clock (UTC)", cell: (m) => daySeconds(m.wall_ms) },
  ];
  return html`<${Table} label="Deployments and incidents" columns=${columns} rows=${[...marks].reverse()}
    empty="None in this period."/>`;
}
