// A host of the tests' own: its data, its process, and what the command line says of its windows.
import { execFile, spawn } from "node:child_process";
import { createServer } from "node:net";
import { mkdirSync, openSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";

const run = promisify(execFile);
const READY_MS = 60000;
export const FIRST_MS = Date.UTC(2014, 9, 21); // where `clickmill generate` begins
export const HOURS = 6;
const ROWS = 120000;

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

export class Host {
  constructor(program, work, env = {}) {
    Object.assign(this, {
      program: resolve(program),
      work: resolve(work),
      env,
      child: null,
      port: Number(process.env.CLICKMILL_TEST_PORT ?? 0),
      sent: 0,
    });
    mkdirSync(this.work, { recursive: true });
  }

  get url() {
    return "http://127.0.0.1:" + this.port;
  }

  async command(...args) {
    return (
      await run(this.program, args, { cwd: this.work, maxBuffer: 256 << 20, env: { ...process.env, ...this.env } })
    ).stdout;
  }

  // Rows of six hours, in the log before the host starts.
  async fill() {
    await this.command(
      "generate",
      "--rows",
      String(ROWS),
      "--seed",
      "5",
      "--hours",
      String(HOURS),
      "--out",
      "ads.csv.gz",
    );
    await this.command("produce", "ads.csv.gz");
  }

  async start() {
    if (this.port === 0) this.port = await freePort();
    const log = openSync(join(this.work, "host.log"), "a");
    const listen = { CLICKMILL_LISTEN: "127.0.0.1:" + this.port };
    this.child = spawn(this.program, ["run"], {
      cwd: this.work,
      stdio: ["ignore", log, log],
      env: { ...process.env, ...this.env, ...listen },
    });
    this.child.on("exit", () => (this.child = null));
    const until = Date.now() + READY_MS;
    while (Date.now() < until) {
      if (this.child === null) throw new Error("the host has ended; see host.log in " + this.work);
      const status = await this.get("/api/status").catch(() => null);
      if (status?.state === "running" && status.ledger.waiting === 0 && (status.ledger.produced > 0 || this.env.EMPTY))
        return;
      await sleep(100);
    }
    throw new Error("the host is not ready after " + READY_MS / 1000 + " s");
  }

  // As a power cut: no time to say goodbye.
  async kill(signal = "SIGTERM") {
    const child = this.child;
    if (child === null) return;
    const gone = new Promise((done) => child.once("exit", done));
    child.kill(signal);
    await gone;
  }

  async get(path) {
    const response = await fetch((this.base ?? this.url) + path, { headers: this.headers() });
    if (!response.ok) throw new Error(path + " answers " + response.status);
    return response.json();
  }

  async post(path, body) {
    const response = await fetch(this.url + path, {
      method: "POST",
      body: typeof body === "string" ? body : JSON.stringify(body),
      headers: { "content-type": "application/json", ...this.headers() },
    });
    const text = await response.text();
    if (!response.ok) throw new Error(path + " answers " + response.status + ": " + text.slice(0, 300));
    return JSON.parse(text);
  }

  headers() {
    return this.env.CLICKMILL_TOKEN ? { authorization: "Bearer " + this.env.CLICKMILL_TOKEN } : {};
  }

  // Rows of `clickmill windows`, as objects with numbers.
  async windows(size, dimension, ...more) {
    const { windows } = JSON.parse(
      await this.command(
        "windows",
        "--size",
        size,
        ...(dimension ? ["--dimension", dimension] : []),
        "--output",
        "json",
        ...more,
      ),
    );
    return windows.map((w) => ({ ...w, start_ms: Date.parse(w.window_start) }));
  }

  // Appends events of one time and category; the answer comes when they are durable.
  append(count, at, fields = {}) {
    const lines = Array.from({ length: count }, () =>
      JSON.stringify({
        id: String(7000000000 + this.sent++),
        click: 0,
        hour: new Date(at).toISOString().slice(2, 13).replace(/[-T]/g, ""),
        C1: 1005,
        banner_pos: 0,
        site_id: "85f751fd",
        site_domain: "c4e18dd6",
        site_category: "50e219e0",
        app_id: "ecad2386",
        app_domain: "7801e8d9",
        app_category: "07d7df22",
        device_id: "a99f214a",
        device_ip: "8197ee2c",
        device_model: "8a4875bd",
        device_type: 1,
        device_conn_type: 0,
        C14: 4155,
        C15: 320,
        C16: 50,
        C17: 310,
        C18: 0,
        C19: 161,
        C20: -1,
        C21: 79,
        ts: at,
        ...fields,
      }),
    );
    return this.post("/api/topics/ad_events_raw/records", lines.join("\n"));
  }

  // Reports are read from PostgreSQL, which gets every window a little later.
  async delivered() {
    for (let tries = 0; tries < 400; tries++) {
      const { ledger, sinks } = await this.get("/api/status");
      if (ledger.waiting === 0 && sinks.every((sink) => sink.lag === 0)) return;
      await sleep(50);
    }
    throw new Error("the sinks do not come to the end of their topic");
  }

  async settled() {
    for (let tries = 0; tries < 200; tries++) {
      if ((await this.get("/api/status")).ledger.waiting === 0) return;
      await sleep(50);
    }
    throw new Error("the host does not come to the end of its topic");
  }
}
