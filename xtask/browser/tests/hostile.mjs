// Names that producers choose to do harm with stay what they are: text, cut, and in their own direction.
import { quiet } from "../browser.mjs";
import { holds, table, until } from "../expect.mjs";

const AT = Date.UTC(2014, 9, 21, 6, 0, 5);
const NAMES = [
  "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>",
  "\"'&amp;<b>bold</b>`${window.hacked=1}",
  "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd",
  "\u0634\u0628\u0643\u0629 \u0627\u0644\u0623\u062e\u0628\u0627\u0631",
  '=HYPERLINK("http://x")',
  "line\nbreak\ttab",
  "__proto__",
  "",
  "W".repeat(10000),
  "\ud83d\ude00".repeat(60),
];

export const tests = {
  async "hostile category names are text everywhere"({ browser, host }) {
    await host.post("/api/smartmodules", {
      stage: "validate",
      params: { max_string_bytes: "20000" },
      message: "<b>long</b> names",
    });
    for (const name of NAMES) await host.append(200, AT, { site_category: name, app_category: name });
    await host.settled();
    const known = new Set(
      (await host.windows("1m", "site_category", "--from", "2014-10-21T06:00:00Z")).map((w) => w.key),
    );
    for (const name of NAMES) holds(known.has(name), "the host has counted " + name.slice(0, 20));
    for (const path of [
      "/?top=50&range=30m",
      "/?top=50&dim=app_category&tab=5m",
      "/?tab=compare&top=50",
      "/reports?report=site_category&top=1000",
      "/pipeline",
    ]) {
      const page = await browser.page();
      await page.open(path);
      if (path !== "/pipeline") {
        await until(
          async () => (await page.locator("bdi.name").allTextContents()).some((t) => t.startsWith("<script>")),
          path + ": the script is shown as text",
          12000,
        );
        const titles = await page.locator("bdi.name").evaluateAll((nodes) => nodes.map((n) => n.title));
        for (const name of NAMES.filter((n) => n !== ""))
          holds(titles.includes(name), path + ": the whole of " + name.slice(0, 20) + " is not in a title");
        const long = Math.max(
          ...(await page.locator("bdi.name").evaluateAll((nodes) => nodes.map((n) => n.textContent.length))),
        );
        holds(long <= 80, path + ": a name of " + long + " characters is shown");
        holds(
          (await page.locator("bdi.name:not([dir=auto])").count()) === 0,
          path + ": a name without its own direction",
        );
      } else await page.getByText("<b>long</b> names").waitFor();
      const [hacked, images, bold, wide] = await page.evaluate(() => [
        window.hacked,
        document.querySelectorAll("main img").length,
        [...document.querySelectorAll("main b")].filter((b) => b.textContent === "bold").length,
        document.documentElement.scrollWidth > innerWidth,
      ]);
      holds(hacked === undefined && images === 0 && bold === 0, path + ": a name has become markup");
      holds(!wide, path + ": a name makes the page wider than the screen");
      if (path.includes("top=50&range")) await browser.shot(page, "hostile");
      quiet(page);
    }
  },

  async "a filter by a hostile key shows that key's numbers"({ browser }) {
    const page = await browser.page();
    await page.open("/reports?dim=site_category&by=day&key=" + encodeURIComponent(NAMES[0]));
    await until(async () => (await table(page, "Trend"))[0]?.Impressions === "200", "its 200 impressions");
    await page.open("/reports?dim=site_category&by=day&key=");
    await until(async () => (await table(page, "Trend"))[0]?.Impressions === "200", "200 of the empty key");
    quiet(page);
  },
};
