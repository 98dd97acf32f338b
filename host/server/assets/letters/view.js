// Which dead letters are shown, as the address says it, and what is said of them.
import { oneOf, text, time } from "../url.js";
import { whole } from "../format.js";

export const TYPES = [
  ["", "all types"],
  ["parsing", "parsing"],
  ["schema", "schema"],
  ["smartmodule", "smartmodule"],
  ["sink", "sink"],
];
export const STATES = [
  ["", "all states"],
  ["waiting", "waiting"],
  ["retrying", "retrying"],
  ["resolved", "resolved"],
  ["dead", "dead"],
];
export const STATE_KINDS = { waiting: "wait", retrying: "wait", resolved: "good", dead: "bad" };

export const schema = {
  type: oneOf(TYPES.map(([name]) => name)),
  rule: text(256),
  state: oneOf(STATES.map(([name]) => name)),
  since: time,
  letter: text(256),
};

const given = (value) => (value === "" || value === null ? undefined : value);
export const queryOf = (values) => ({
  type: given(values.type),
  rule: given(values.rule),
  state: given(values.state),
  since: given(values.since),
});
// The same as the POST requests write it.
export const filterOf = (values) => ({
  error_type: given(values.type),
  rule: given(values.rule),
  state: given(values.state),
  since_ms: given(values.since),
});

export function originOf(origin) {
  if (origin?.topic !== undefined) return origin.topic + "/" + origin.partition + "@" + whole(origin.offset);
  if (origin?.file !== undefined) return origin.file + ", line " + whole(origin.line);
  return JSON.stringify(origin ?? null);
}

// The payload's bytes, as far as the letter holds them.
export function bytesOf({ raw_payload: payload, raw_encoding: encoding }) {
  if (encoding !== "base64") return new TextEncoder().encode(payload);
  try {
    return Uint8Array.from(atob(payload), (c) => c.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}

// Sixteen bytes a line: offset, bytes, and the characters of those that have one.
export function hex(bytes, from, to) {
  const lines = [];
  for (let at = from; at < Math.min(to, bytes.length); at += 16) {
    const row = [...bytes.slice(at, Math.min(at + 16, to))];
    const pairs = row.map((b, i) => b.toString(16).padStart(2, "0") + (i === 7 ? " " : "")).join(" ");
    lines.push(
      at.toString(16).padStart(8, "0") +
        "  " +
        pairs.padEnd(49) +
        " " +
        row.map((b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join(""),
    );
  }
  return lines.join("\n");
}
