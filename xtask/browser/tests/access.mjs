// Every page for a keyboard, a screen reader and weak eyes: axe in both themes, and a walk with Tab.
import { quiet } from "../browser.mjs";
import { equal, holds, until } from "../expect.mjs";

const PAGES = [
  "/",
  "/?tab=compare",
  "/reports",
  "/reports?report=site_category",
  "/reports?report=campaign",
  "/pipeline",
  "/dead-letters",
  "/health",
  "/?from=banana",
];

export const tests = {
  async "axe finds nothing, in light and in dark"({ browser }) {
    for (const dark of [false, true]) {
      for (const path of PAGES) {
        const page = await browser.page({ dark });
        await page.open(path);
        await page.waitForTimeout(900);
        await page.evaluate(() => document.querySelectorAll("details").forEach((d) => (d.open = true)));
        // Not with a script element, which the pages' policy might forbid one day: evaluated.
        await page.evaluate(await axe(browser));
        const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
        const found = violations.map(
          (v) =>
            v.id +
            ": " +
            v.nodes
              .slice(0, 3)
              .map((n) => n.target.join(" ") + " " + (n.any[0]?.message ?? ""))
              .join("; "),
        );
        holds(found.length === 0, path + (dark ? " in dark" : " in light") + ": " + found.join(" | "));
        quiet(page);
        await page.close();
      }
    }
  },

  async "Tab reaches everything, and shows where it is"({ browser }) {
    const page = await browser.page();
    await page.open("/");
    await page.locator("#tile-ctr").waitFor();
    await page.waitForTimeout(800);
    const seen = [];
    for (let i = 0; i < 80; i++) {
      await page.keyboard.press("Tab");
      const at = await page.evaluate(() => {
        const e = document.activeElement;
        if (e === document.body) return null;
        const style = getComputedStyle(e);
        return {
          name: (e.getAttribute("aria-label") ?? e.textContent ?? "").trim().slice(0, 40),
          what: e.tagName,
          outline: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
        };
      });
      if (at === null) break;
      seen.push(at);
    }
    const names = seen.map((s) => s.name);
    for (const wanted of [
      "To the content",
      "Live",
      "Reports",
      "Health",
      "1 min",
      "5 min",
      "Pause",
      "Table of these windows",
    ])
      holds(names.includes(wanted), wanted + " is not reached: " + names.join(", "));
    for (const what of ["SELECT", "INPUT"])
      holds(
        seen.some((s) => s.what === what),
        "no " + what + " is reached",
      );
    const blind = seen.filter((s) => !s.outline);
    equal(blind, [], "without a visible focus");
    quiet(page);
  },

  async "arrow keys read a chart's values, and a mark's text comes with its focus"({ browser }) {
    const page = await browser.page();
    await page.open("/");
    await page.locator("#tile-ctr").waitFor();
    const plot = page.locator(".plot").first();
    await plot.focus();
    await page.keyboard.press("ArrowLeft");
    await page.locator(".tip").first().waitFor();
    const first = await page.locator(".tip").first().innerText();
    await page.keyboard.press("ArrowLeft");
    await until(async () => (await page.locator(".tip").first().innerText()) !== first, "another value");
    holds(/CTR/.test(await plot.locator("[aria-live]").innerText()), "it is said aloud");
    await page.keyboard.press("Escape");
    await until(async () => (await page.locator(".tip").count()) === 0, "Escape closes it");
    const canvas = await page.locator(".chart canvas").first().getAttribute("aria-label");
    holds(/windows.*impressions.*CTR/.test(canvas), "the chart's text: " + canvas);
    quiet(page);
  },

  async "Enter follows links, and the new page's heading has the focus"({ browser }) {
    const page = await browser.page();
    await page.open("/");
    await page.getByRole("link", { name: "Health" }).focus();
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Health and settings" }).waitFor();
    equal(await page.evaluate(() => document.activeElement.tagName), "H1", "what has the focus");
    equal(await page.title(), "Health · Clickmill", "the title");
    quiet(page);
  },
};

async function axe(browser) {
  const { readFile } = await import("node:fs/promises");
  return readFile(browser.axe, "utf8");
}
