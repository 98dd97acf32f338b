// Lost connections, a tab that nobody looks at for a night, and clocks that are wrong.
import { quiet } from "../browser.mjs";
import { equal, holds, read, table, until } from "../expect.mjs";

export const tests = {
  async "a tab of a night has not grown, and is up to date at once"({ browser }) {
    const page = await browser.page();
    await page.open("/");
    await page.waitForFunction(() => /\d/.test(document.getElementById("tile-ctr")?.textContent ?? ""));
    const found = await page.evaluate(async () => {
      const { live, take } = await import("/assets/stream.js");
      const hide = (hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      };
      await new Promise((done) => setTimeout(done, 500));
      hide(true);
      const { newest } = live;
      const at = live.windows["1m"].at(-1).start_ms;
      const before = document.getElementById("newest-window").textContent;
      const window = (start_ms) => ({
        start_ms,
        impressions: 1000,
        clicks: 100,
        conversions: 1,
        cost_micros: 5,
        revenue_micros: 6,
        final: true,
        corrected: 0,
        late: 0,
      });
      for (let minute = 1; minute <= 720; minute++) {
        const start = at + minute * 60000;
        for (let i = 0; i < 20; i++) {
          take("update", {
            ...newest,
            watermark_ms: start,
            windows: { "1m": [window(start)], "5m": [window(Math.floor(start / 300000) * 300000)] },
            marks: [{ at_ms: start, wall_ms: i, kind: "advance", text: "x", deployment: null }],
          });
        }
      }
      const unseen = document.getElementById("newest-window").textContent === before;
      hide(false);
      await new Promise((done) => requestAnimationFrame(() => setTimeout(() => requestAnimationFrame(done), 50)));
      return {
        minutes: live.windows["1m"].length,
        fives: live.windows["5m"].length,
        marks: live.marks.length,
        unseen,
        last: document.getElementById("newest-window").textContent,
        want: new Date(at + 720 * 60000).toISOString().slice(11, 16),
        nodes: document.querySelectorAll("*").length,
      };
    });
    holds(found.minutes <= 240 && found.fives <= 120 && found.marks <= 300, "kept: " + JSON.stringify(found));
    holds(found.unseen, "something was drawn while nobody looked");
    holds(found.last.includes(found.want), "the newest window is not shown at once: " + JSON.stringify(found));
    holds(found.nodes < 20000, found.nodes + " elements");
    quiet(page);
  },

  async "a clock that is an hour off is noticed, and moves nothing"({ browser }) {
    const right = await browser.page();
    await right.open("/");
    await right.waitForFunction(() => /\d/.test(document.getElementById("tile-ctr")?.textContent ?? ""));
    for (const [by, said] of [
      [3600000, "1 h 00 min ahead of the server"],
      [-3600000, "1 h 00 min behind the server"],
    ]) {
      const page = await browser.page({
        before: `{ const D = Date; const now = () => D.now.call(D); const real = D.now; D.now = () => real.call(D) + ${by};
        globalThis.Date = new Proxy(D, { construct: (T, args) => (args.length === 0 ? new T(real.call(D) + ${by}) : new T(...args)) }); }`,
      });
      await page.open("/");
      await until(
        async () =>
          (await page.locator("main").innerText())
            .replaceAll("\u00a0", " ")
            .replace("60 min", "1 h 00 min")
            .includes(said),
        "the clock is told: " + said,
      );
      for (const id of ["newest-window", "tile-ctr", "total-facts"])
        equal(await read(page, id), await read(right, id), id + " with a wrong clock");
      await page.open("/pipeline");
      await page.getByRole("heading", { name: "Partitions" }).waitFor();
      const [age] = (await table(page, "Partitions")).map((r) => r.Commit);
      holds(!/ h /.test(age) && age !== "–", "the age of a commit: " + age);
      quiet(page);
    }
  },

  async "a host that is killed and started again: it is said, and the hole is filled"({ browser, host }) {
    const page = await browser.page();
    await page.open("/");
    await page.waitForFunction(() => /\d/.test(document.getElementById("tile-ctr")?.textContent ?? ""));
    const before = await read(page, "newest-window");
    await host.kill("SIGKILL");
    await page.getByText("Connection lost:").waitFor();
    equal(await read(page, "newest-window"), before, "what was shown stays");
    await browser.shot(page, "connection-lost");
    await host.start();
    const at = Date.UTC(2014, 9, 21, 6, 7, 30);
    for (const minute of [-2, -1, 0]) await host.append(50, at + minute * 60000);
    await host.settled();
    await until(
      async () => (await page.locator("#connection").innerText()) === "live",
      "the page is live again",
      12000,
    );
    await until(async () => (await read(page, "newest-window")).includes("06:07"), "the newest window", 12000);
    await page.getByText("Table of these windows").click();
    const shown = (await table(page, "Windows")).map((r) => [r["Window (UTC)"].slice(11, 16), r.Impressions]);
    const expected = (await host.windows("1m", "total"))
      .filter((w) => w.start_ms >= at - 3600000 + 30000)
      .map((w) => [new Date(w.start_ms).toISOString().slice(11, 16), w.impressions.toLocaleString("en")])
      .reverse();
    equal(shown, expected, "windows after the hole");
    holds((await page.getByText("Connection lost:").count()) === 0, "it still says that the connection is lost");
    quiet(page);
  },
};
