// What /api/live tells, read as a stream with fetch (EventSource cannot send a token), and kept within bounds however
// long the page is open: the newest windows of each size, the newest marks. After a lost connection it comes back by
// itself; the snapshot that a stream begins with fills the hole.
import { headers, isLocked, lock, onLock } from "./api.js";

const SILENCE_MS = 6000; // the server speaks at least twice a second
const FIRST_PAUSE_MS = 400;
const LONGEST_PAUSE_MS = 8000;
const MOST_WINDOWS = { "1m": 240, "5m": 120 };
const MOST_MARKS = 300;
const SKEW_MS = 60000;

export const live = {
  phase: "connecting", // connecting | live | reading | lost | locked
  why: "",
  newest: null, // the newest event, without its windows
  windows: { "1m": [], "5m": [] },
  marks: [],
  snapshots: 0, // how often a whole picture came: what was fetched beside it may have a hole
  changes: 0, // rises when a window or a mark has changed
  heard: 0, // performance.now() of the newest event
  skew: 0, // how far this computer's clock is ahead of the server's
};

const listeners = new Set();
let due = 0;
// In the background nothing is drawn; the first frame in sight has everything.
function tell() {
  if (due === 0 && !document.hidden) {
    due = requestAnimationFrame(() => {
      due = 0;
      listeners.forEach((listener) => listener());
    });
  }
}

export function subscribe(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

// The server's wall clock, whatever this computer's says.
export const serverNow = () => (live.newest ? live.newest.at_ms + (performance.now() - live.heard) : null);

function phase(name, why = "") {
  live.phase = name;
  live.why = why;
  tell();
}

// Both lists are in order of start; those of `changed` take the place of their like.
export function merged(old, changed, most) {
  if (changed.length === 0) return old;
  const all = new Map(old.map((w) => [w.start_ms, w]));
  for (const w of changed) all.set(w.start_ms, w);
  const sorted = [...all.values()].sort((a, b) => a.start_ms - b.start_ms);
  return sorted.slice(Math.max(0, sorted.length - most));
}

export function take(kind, event) {
  const whole = kind === "snapshot";
  const { windows = {}, marks = [], ...rest } = event;
  for (const size of Object.keys(MOST_WINDOWS)) {
    const changed = windows[size] ?? [];
    live.windows[size] = merged(whole ? [] : live.windows[size], changed, MOST_WINDOWS[size]);
    if (changed.length > 0) live.changes++;
  }
  const known = new Map((whole ? [] : live.marks).map((mark) => [mark.id, mark]));
  // One that comes again takes the place of the one before.
  for (const mark of marks) known.set(mark.id, mark);
  if (whole || marks.length > 0) {
    live.marks = [...known.values()].sort((a, b) => a.at_ms - b.at_ms).slice(-MOST_MARKS);
    live.changes++;
  }
  if (whole) live.snapshots++;
  live.newest = rest;
  live.heard = performance.now();
  const skew = Date.now() - event.at_ms;
  live.skew = Math.abs(skew) >= SKEW_MS ? skew : 0;
  phase(event.caught_up ? "live" : "reading");
}

// Whole events of the text so far, and the rest of it. Many updates that came at once are all taken: each holds
// only what changed.
export function events(text) {
  const parts = text.split("\n\n");
  const rest = parts.pop();
  const found = [];
  for (const part of parts) {
    let kind = "update";
    let data = "";
    for (const line of part.split("\n")) {
      if (line.startsWith("event:")) kind = line.slice(6).trim();
      if (line.startsWith("data:")) data += line.slice(5);
    }
    if (data !== "" && (kind === "snapshot" || kind === "update")) found.push([kind, JSON.parse(data)]);
  }
  return [found, rest];
}

let stop = null;
async function follow() {
  const mine = new AbortController();
  stop = mine;
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => mine.abort(), SILENCE_MS);
  };
  heard();
  try {
    const response = await fetch("/api/live", { headers: headers(), cache: "no-store", signal: mine.signal });
    if (response.status === 401) {
      lock();
      return "it asks for a token";
    }
    if (!response.ok) return "the server answers " + response.status;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return "the server ended the stream";
      heard();
      const [found, left] = events(rest + value);
      rest = left;
      for (const [kind, event] of found) take(kind, event);
    }
  } catch (error) {
    if (error instanceof SyntaxError) return "it sent what cannot be read";
    return mine.signal.aborted ? "the server fell silent" : "the server does not answer";
  } finally {
    clearTimeout(timer);
    mine.abort();
  }
}

let hurry = () => {};
const pause = (ms) =>
  new Promise((done) => {
    const timer = setTimeout(done, ms);
    hurry = () => {
      clearTimeout(timer);
      done();
    };
  });
const unlocked = () =>
  new Promise((done) => {
    const off = onLock(() => {
      if (!isLocked()) {
        off();
        done();
      }
    });
  });

// A page that comes back in sight, or a network that does, does not wait for the pause to end.
function awake() {
  if (document.hidden) return;
  tell();
  if (live.phase === "lost") hurry();
  else if (performance.now() - live.heard > SILENCE_MS) stop?.abort();
}

export async function run() {
  document.addEventListener("visibilitychange", awake);
  addEventListener("online", awake);
  addEventListener("pageshow", awake);
  for (let wait = FIRST_PAUSE_MS; ; wait = Math.min(wait * 2, LONGEST_PAUSE_MS)) {
    const began = performance.now();
    const why = await follow();
    if (isLocked()) {
      phase("locked");
      await unlocked();
      wait = FIRST_PAUSE_MS / 2;
      continue;
    }
    if (live.heard > began) wait = FIRST_PAUSE_MS;
    phase("lost", why);
    // Not all tabs of all people at the same moment.
    await pause(wait * (0.8 + 0.4 * Math.random()));
  }
}
