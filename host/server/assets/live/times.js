// A time that is typed: in UTC and written as everywhere on these pages, whatever the browser's language and zone.
import { html, useEffect, useState } from "../vendor/htm/standalone.module.js";
import { parseTime } from "../url.js";

const shown = (ms) =>
  ms === null || ms === undefined ? "" : new Date(ms).toISOString().slice(0, 16).replace("T", " ");

export function TimeField({ label, value, onChange }) {
  const [typed, setTyped] = useState(shown(value));
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    setTyped(shown(value));
    setWrong("");
  }, [value]);
  const change = (e) => {
    const text = e.target.value.trim();
    setTyped(text);
    try {
      const ms = text === "" ? null : parseTime(text);
      setWrong("");
      if (ms !== value) onChange(ms);
    } catch (error) {
      setWrong(error.message);
    }
  };
  return html`<label class="field"><span>${label}</span>
    <input class="time" type="text" placeholder="YYYY-MM-DD hh:mm" maxlength="24" autocomplete="off" spellcheck=${false}
      value=${typed} title=${wrong}
    aria-invalid=${wrong ? "true" : "false"} onChange=${change}/>
      ${wrong && html`<span class="bad" role="alert">${wrong}</span>`}</label>`;
}
