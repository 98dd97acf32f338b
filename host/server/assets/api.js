// Calls of the server's API. The token is kept for this tab only, and sent as a header: never in an address.
import { useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";

const TOKEN = "clickmill-token";
const locked = new Set();
let asked = false;

export const isLocked = () => asked;
export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;
export const headers = () => (hasToken() ? { authorization: "Bearer " + sessionStorage.getItem(TOKEN) } : {});

export function onLock(listener) {
  locked.add(listener);
  return () => locked.delete(listener);
}

export function lock() {
  asked = true;
  locked.forEach((listener) => listener());
}

export function unlock(token) {
  sessionStorage.setItem(TOKEN, token);
  asked = false;
  locked.forEach((listener) => listener());
}

// A refusal, as the server words it, or that there was no answer at all.
export class Problem extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers: { ...headers(), ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "no_answer", "The server does not answer.");
  }
  if (response.status === 401) lock();
  if (!response.ok && !options.any) {
    const said = await response.json().catch(() => null);
    throw new Problem(
      response.status,
      said?.error?.code ?? "",
      said?.error?.message ?? "The server answers " + response.status + ".",
    );
  }
  return response;
}

export function address(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return text ? path + "?" + text : path;
}

export const get = async (path, query, signal) => (await call(address(path, query), { signal })).json();
// For answers whose status is part of what they say, as of /health/ready.
export const getAny = async (path, signal) => (await call(path, { signal, any: true })).json();
export const getText = async (path, signal) => (await call(path, { signal })).text();
export const post = async (path, body) =>
  (
    await call(path, {
      method: "POST",
      body: JSON.stringify(body ?? {}),
      headers: { "content-type": "application/json" },
    })
  ).json();

// What a call gives, again after `every` milliseconds while the page is in sight; the last good answer stays beside
// the newest problem. `key` says when to ask anew; null asks nothing.
export function useData(key, load, every = 0) {
  const [state, set] = useState({ data: null, problem: null, key: null });
  const again = useRef(() => {});
  useEffect(() => {
    if (key === null) {
      set({ data: null, problem: null, key: null });
      return undefined;
    }
    const stop = new AbortController();
    let timer = 0;
    let busy = false;
    const ask = async () => {
      if (busy) return;
      busy = true;
      clearTimeout(timer);
      try {
        const data = await load(stop.signal);
        if (!stop.signal.aborted) set({ data, problem: null, key });
      } catch (problem) {
        if (!stop.signal.aborted) set((old) => ({ data: old.key === key ? old.data : null, problem, key }));
      }
      busy = false;
      if (every > 0 && !stop.signal.aborted && !document.hidden) timer = setTimeout(ask, every);
    };
    const seen = () => !document.hidden && every > 0 && ask();
    const opened = onLock(() => !isLocked() && ask());
    document.addEventListener("visibilitychange", seen);
    again.current = ask;
    ask();
    return () => {
      stop.abort();
      clearTimeout(timer);
      opened();
      document.removeEventListener("visibilitychange", seen);
    };
  }, [key, every]);
  return { ...state, fresh: state.key === key, again: () => again.current() };
}
