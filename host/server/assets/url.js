// The address is the view: every choice on a page is in the query, and going back or forward undoes and redoes it.
// What the query may hold is told by a schema:
// name -> { parse(text) -> value or throws, show(value) -> text, initial }.
import { useEffect, useMemo, useState } from "./vendor/htm/standalone.module.js";

const listeners = new Set();
const tell = () => listeners.forEach((listener) => listener());
addEventListener("popstate", tell);

export function navigate(href, replace = false) {
  if (href === location.pathname + location.search) return;
  history[replace ? "replaceState" : "pushState"](null, "", href);
  tell();
}

export function useLocation() {
  const [place, set] = useState({ path: location.pathname, search: location.search });
  useEffect(() => {
    const listener = () => set({ path: location.pathname, search: location.search });
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, []);
  return place;
}

// Values of the schema's names; what cannot be read has its initial value, and a line in `problems`.
export function read(schema, search) {
  const query = new URLSearchParams(search);
  const [values, problems] = [{}, []];
  for (const [name, kind] of Object.entries(schema)) {
    values[name] = kind.initial;
    try {
      if (kind.many) values[name] = query.getAll(name).map(kind.parse);
      else if (query.has(name)) values[name] = kind.parse(query.get(name));
    } catch (error) {
      problems.push({ names: [name], text: name + "=" + query.getAll(name).join(","), why: error.message });
    }
  }
  return { values, problems };
}

export function write(schema, values, path = location.pathname) {
  const query = new URLSearchParams();
  for (const [name, kind] of Object.entries(schema)) {
    const value = values[name];
    if (kind.many) for (const item of value ?? []) query.append(name, item);
    else if (value !== null && value !== undefined && value !== kind.initial)
      query.set(name, kind.show ? kind.show(value) : String(value));
  }
  const text = query.toString();
  return path + (text ? "?" + text : "");
}

// What a page does with its address: values, what is wrong with it, and how to change it.
export function useQuery(schema) {
  const { search } = useLocation();
  const { values, problems } = useMemo(() => read(schema, search), [schema, search]);
  const set = (patch, replace = false) =>
    navigate(write(schema, { ...read(schema, location.search).values, ...patch }), replace);
  return { values, problems, set };
}

export const oneOf = (choices, initial = choices[0]) => ({
  initial,
  parse(text) {
    if (!choices.includes(text)) throw new Error("possible are " + choices.join(", "));
    return text;
  },
});

// As long as the server takes it, which counts bytes.
export const text = (mostBytes) => ({
  initial: "",
  parse(value) {
    if (new TextEncoder().encode(value).length > mostBytes) throw new Error("it has more than " + mostBytes + " bytes");
    return value;
  },
});

export const texts = (mostBytes) => ({ initial: [], many: true, parse: text(mostBytes).parse });

export const count = (least, most, initial) => ({
  initial,
  parse(value) {
    const n = Number(value);
    if (!/^\d+$/.test(value) || n < least || n > most)
      throw new Error("it must be a whole number from " + least + " to " + most);
    return n;
  },
});

const LAST_MS = 4102444800000; // 2100-01-01: no event is later
const FORM = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,3})?)?Z?)?$/;

// 2014-10-21, 2014-10-21T00:00, 2014-10-21T00:00:00Z or milliseconds; always UTC.
export function parseTime(value) {
  const ms = /^\d{1,14}$/.test(value)
    ? Number(value)
    : FORM.test(value)
      ? Date.parse(value.length > 10 ? value.replace(" ", "T").replace(/Z?$/, "Z") : value)
      : NaN;
  const real =
    Number.isFinite(ms) && (/^\d+$/.test(value) || new Date(ms).toISOString().startsWith(value.slice(0, 10)));
  if (!real) throw new Error("that is no time; written as 2014-10-21T13:00:00Z, in UTC");
  if (ms >= LAST_MS) throw new Error("times are before the year 2100");
  return ms;
}

export const time = {
  initial: null,
  parse: parseTime,
  show: (ms) =>
    new Date(ms)
      .toISOString()
      .replace(/\.000Z$/, "Z")
      .replace(/:00Z$/, "Z")
      .replace(/T00:00Z$/, ""),
};
export const flag = { initial: false, parse: (value) => value === "1", show: () => "1" };
