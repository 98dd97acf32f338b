// A time that is typed: in UTC, as every time on these pages.
import { html, useEffect, useState } from "../vendor/htm/standalone.module.js";
import { parseTime } from "../url.js";

const shown = (ms) => (ms === null || ms === undefined ? "" : new Date(ms).toISOString().slice(0, 16));

export function TimeField({ label, value, onChange }) {
  const [typed, setTyped] = useState(shown(value));
  useEffect(() => setTyped(shown(value)), [value]);
  const change = (e) => {
    setTyped(e.target.value);
    if (e.type !== "change") return;
    if (e.target.value === "") onChange(null);
    else {
      try {
        onChange(parseTime(e.target.value));
      } catch {
        setTyped(shown(value));
      }
    }
  };
  return html`<label class="field"><span>${label}</span><input type="datetime-local" min="1970-01-01T00:00" max="2099-12-31T23:59" value=${typed} onChange=${change}/></label>`;
}
