// The live page's numbers are those of `clickmill windows`; its address is the view; it moves as events come.
import { quiet } from "../browser.mjs";
import { cpa, cpc, ctr, equal, holds, money, read, roas, sums, table, until, whole } from "../expect.mjs";

const clock = (ms) => new Date(ms).toISOString().slice(11, 16);
const ready = (page) =>
  page.waitForFunction(
    () =>
      /\d/.test(document.getElementById("tile-ctr")?.textContent ?? "") &&
      document.querySelector(".chart canvas") !== null,
    null,
    { polling: "raf" },
  );

async function tilesEqual(page, window, size) {
  equal(await read(page, "tile-ctr"), ctr(window), "CTR");
  equal(await read(page, "tile-cpc"), cpc(window), "CPC");
  equal(await read(page, "tile-cpa"), cpa(window), "CPA");
  equal(await read(page, "tile-roas"), roas(window), "ROAS");
  equal(await read(page, "tile-impressions"), whole(window.impressions), "impressions");
  holds(
    (await read(page, "newest-window")).includes(clock(window.start_ms) + "–" + clock(window.start_ms + size)),
    "the newest window is named",
  );
}

async function tableEquals(page, expected) {
  await page.getByText("Table of these windows").click();
  const rows = await table(page, "Windows");
  equal(rows.length, expected.length, "windows in the table");
  const wanted = [...expected]
    .reverse()
    .map((w) => [
      clock(w.start_ms),
      whole(w.impressions),
      whole(w.clicks),
      ctr(w),
      cpc(w),
      cpa(w),
      roas(w),
      money(w.cost_micros, 6),
      w.final ? "final" : "provisional",
    ]);
  equal(
    rows.map((r) => [
      r["Window (UTC)"].slice(11, 16),
      r.Impressions,
      r.Clicks,
      r.CTR,
      r.CPC,
      r.CPA,
      r.ROAS,
      r.Cost,
      r.State,
    ]),
    wanted,
    "the table",
  );
}

export const tests = {
  async "minutes are those of clickmill windows"({ browser, host }) {
    const all = await host.windows("1m", "total");
    const page = await browser.page();
    await page.open("/");
    await ready(page);
    await tilesEqual(page, all.at(-1), 60000);
    await tableEquals(page, all.slice(-60));
    holds((await read(page, "total-facts")).startsWith("60 windows"), "an hour is shown");
    await browser.shot(page, "live-light");
    quiet(page);
  },

  async "five minutes are those of clickmill windows"({ browser, host }) {
    const all = await host.windows("5m", "total");
    const page = await browser.page({ dark: true });
    await page.open("/?tab=5m");
    await ready(page);
    await tilesEqual(page, all.at(-1), 300000);
    await tableEquals(page, all.slice(-60));
    await browser.shot(page, "live-dark");
    quiet(page);
  },

  async "a period before what the stream keeps is read from the topic"({ browser, host }) {
    const all = await host.windows("1m", "total", "--to", "2014-10-21T00:40:00Z");
    const page = await browser.page();
    await page.open("/?from=2014-10-21&to=2014-10-21T00:40Z");
    await ready(page);
    await until(async () => (await read(page, "total-facts")).startsWith("40 windows"), "forty windows");
    await tableEquals(page, all);
    quiet(page);
  },

  async "keys of a dimension are those of clickmill windows"({ browser, host }) {
    const last = (await host.windows("1m", "total")).at(-1).start_ms;
    const rows = (await host.windows("1m", "site_category")).filter((r) => r.start_ms > last - 3600000);
    const expected = [...sums(rows, (r) => r.key)].sort((a, b) => b[1].impressions - a[1].impressions).slice(0, 5);
    const page = await browser.page();
    await page.open("/?top=5");
    await ready(page);
    await until(async () => (await table(page, "Keys of the dimension")).length === 5, "five keys");
    const shown = await table(page, "Keys of the dimension");
    equal(
      shown.map((r) => [r["Site category"], r.Impressions, r.Clicks, r.CTR, r.CPC, r.CPA, r.ROAS]),
      expected.map(([key, m]) => [key, whole(m.impressions), whole(m.clicks), ctr(m), cpc(m), cpa(m), roas(m)]),
      "keys",
    );
    await page.getByRole("searchbox", { name: "Search keys" }).fill(expected[2][0].slice(0, 5));
    await until(
      async () => (await table(page, "Keys of the dimension"))[0]?.["Site category"] === expected[2][0],
      "the key that was searched for",
    );
    holds(page.url().includes("q=" + expected[2][0].slice(0, 5)), "the search is in the address");
    quiet(page);
  },

  async "two periods are compared by the windows of each"({ browser, host }) {
    const all = await host.windows("1m", "total");
    const hour = (from) =>
      sums(
        all.filter((w) => w.start_ms >= from && w.start_ms < from + 3600000),
        () => "",
      )?.get("");
    const [a, b] = [hour(Date.UTC(2014, 9, 21, 3)), hour(Date.UTC(2014, 9, 21, 1))];
    const page = await browser.page();
    await page.open("/?tab=compare&a=2014-10-21T03:00Z&b=2014-10-21T01:00Z");
    const numbers = async () =>
      Object.fromEntries((await table(page, "Both periods in numbers")).map((r) => [r.Measure, [r.A, r.B]]));
    await until(
      async () =>
        (await numbers()).Impressions?.[0] === whole(a.impressions) &&
        (await numbers()).Impressions[1] === whole(b.impressions),
      "impressions of both",
    );
    equal((await numbers()).CTR, [ctr(a), ctr(b)], "CTR of both");
    equal((await numbers()).ROAS, [roas(a), roas(b)], "ROAS of both");
    await browser.shot(page, "live-compare");
    quiet(page);
  },

  async "the address is the view, back and forward too"({ browser }) {
    const page = await browser.page();
    await page.open("/");
    await ready(page);
    await page.getByRole("button", { name: "5 min", exact: true }).click();
    await page.getByRole("combobox", { name: "Dimension" }).selectOption("device_type");
    await page.getByRole("combobox", { name: "Order" }).selectOption("ctr");
    await until(async () => (await table(page, "Keys of the dimension"))[0]?.["Device type"], "device types");
    const [link, shown] = [new URL(page.url()), await table(page, "Keys of the dimension")];
    const other = await browser.page();
    await other.open(link.pathname + link.search);
    await until(
      async () => JSON.stringify(await table(other, "Keys of the dimension")) === JSON.stringify(shown),
      "the same view by its link",
    );
    await page.goBack();
    equal(await page.getByRole("combobox", { name: "Order" }).inputValue(), "impressions", "order, one step back");
    await page.goBack();
    await page.goBack();
    equal(
      await page.getByRole("button", { name: "1 min", exact: true }).getAttribute("aria-pressed"),
      "true",
      "1 min, three steps back",
    );
    await page.goForward();
    equal(
      await page.getByRole("button", { name: "5 min", exact: true }).getAttribute("aria-pressed"),
      "true",
      "5 min, one step forward",
    );
    quiet(page);
  },

  async "a phone shows the same without scrolling sideways"({ browser }) {
    const page = await browser.page({ width: 390, height: 844 });
    for (const path of [
      "/",
      "/?tab=compare",
      "/reports",
      "/reports?report=site_category",
      "/pipeline",
      "/dead-letters",
      "/health",
    ]) {
      await page.open(path);
      await page.waitForTimeout(500);
      const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      holds(wide <= window, path + " is " + wide + " px wide on a screen of " + window);
      if (path === "/") await browser.shot(page, "live-phone");
    }
    quiet(page);
  },

  async "the page is usable within a second"({ browser }) {
    const took = [];
    for (let i = 0; i < 3; i++) {
      const page = await browser.page();
      await page.open("/");
      await ready(page);
      took.push(Math.round(await page.evaluate(() => performance.now())));
      quiet(page);
    }
    console.log("# usable after " + took.join(", ") + " ms");
    holds(Math.min(...took) < 1000, "usable after " + took.join(", ") + " ms");
  },

  async "an acknowledged event is on the screen within 1.5 s"({ browser, host }) {
    const page = await browser.page();
    await page.open("/");
    await ready(page);
    const newest = (await host.windows("1m", "total")).at(-1).start_ms;
    const took = [];
    for (let i = 0; i < 5; i++) {
      const number = async () => Number((await read(page, "tile-impressions")).replaceAll(",", ""));
      const before = await number();
      await page.evaluate((wanted) => {
        const tile = document.getElementById("tile-impressions");
        window.seen = new Promise((done) =>
          new MutationObserver(
            () => Number(tile.textContent.replaceAll(",", "")) === wanted && done(Date.now()),
          ).observe(tile, { characterData: true, childList: true, subtree: true }),
        );
      }, before + 3);
      await host.append(3, newest + 59000);
      const acknowledged = Date.now();
      took.push(
        (await page.evaluate(() =>
          Promise.race([window.seen, new Promise((done) => setTimeout(() => done(Infinity), 6000))]),
        )) - acknowledged,
      );
    }
    console.log("# on the screen after " + took.join(", ") + " ms");
    holds(Math.max(...took) < 1500, "on the screen after " + took.join(", ") + " ms");
    quiet(page);
  },

  async "a paused view stands still until it goes on"({ browser, host }) {
    const page = await browser.page();
    await page.open("/");
    await ready(page);
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    holds(page.url().includes("paused="), "the pause is in the address");
    const before = await read(page, "tile-impressions");
    const newest = (await host.windows("1m", "total")).at(-1).start_ms;
    await host.append(5, newest + 59000);
    await page.waitForTimeout(2000);
    equal(await read(page, "tile-impressions"), before, "impressions while paused");
    await page.getByRole("button", { name: "Resume", exact: true }).click();
    await until(async () => (await read(page, "tile-impressions")) !== before, "new impressions after the pause");
    quiet(page);
  },
};
