// What came after the watermark, what came too late, and what was deployed: all of it is seen on the live page.
import { quiet } from "../browser.mjs";
import { equal, holds, read, table, until } from "../expect.mjs";

const HOUR = Date.UTC(2014, 9, 21, 5);
const row = async (page, clock) =>
  (await table(page, "Windows")).find((r) => r["Window (UTC)"].slice(11, 16) === clock);

async function opened(browser, options) {
  const page = await browser.page(options);
  await page.open("/");
  await page.locator("#tile-ctr").waitFor();
  await page.getByText("Table of these windows").click();
  return page;
}

export const tests = {
  async "impressions after the watermark are told as corrections"({ browser, host }) {
    const page = await opened(browser);
    const before = await until(() => row(page, "05:58"), "the window of 05:58");
    equal(before.State, "provisional", "its state");
    await host.append(4, HOUR + 58 * 60000 + 30000);
    await until(
      async () => Number((await row(page, "05:58")).Impressions) === Number(before.Impressions) + 4,
      "four impressions more",
    );
    equal((await row(page, "05:58")).Corrected, String(Number(before.Corrected) + 4), "corrected");
    holds(
      /corrected by \d+ impressions? that came after the watermark/.test(await read(page, "total-facts")),
      "it is said above the chart: " + (await read(page, "total-facts")),
    );
    quiet(page);
  },

  async "events that are too late are told, and not counted"({ browser, host }) {
    const page = await opened(browser);
    const before = await until(() => row(page, "05:30"), "the window of 05:30");
    await host.append(5, HOUR + 30 * 60000);
    await until(async () => (await row(page, "05:30")).Late === String(Number(before.Late) + 5), "five late events");
    equal((await row(page, "05:30")).Impressions, before.Impressions, "impressions of the window");
    await until(
      async () => /too late to be counted/.test(await read(page, "total-facts")),
      "it is said above the chart",
    );
    quiet(page);
  },

  async "a deployment is a mark whose text comes with pointer and focus"({ browser, host }) {
    const page = await opened(browser, { dark: true });
    await host.post("/api/smartmodules", {
      stage: "validate",
      params: { max_string_bytes: "600" },
      message: "somewhat <i>longer</i> names",
    });
    await host.append(30, HOUR + 59 * 60000 + 50000);
    const flag = page.locator(".flag button").last();
    await until(
      async () =>
        (await flag.count()) === 1 && (await flag.getAttribute("aria-label")).includes("somewhat <i>longer</i> names"),
      "the mark",
    );
    await flag.hover();
    await page.getByRole("tooltip").filter({ hasText: "somewhat <i>longer</i> names" }).waitFor();
    await page.mouse.move(5, 5);
    await until(async () => (await page.getByRole("tooltip").count()) === 0, "the text goes with the pointer");
    await flag.focus();
    await page.getByRole("tooltip").filter({ hasText: "Deployment" }).waitFor();
    await browser.shot(page, "live-marks-dark");
    await page.getByText(/^Deployments and incidents/).click();
    holds(
      (await table(page, "Deployments and incidents")).some((r) => r.Text.includes("somewhat <i>longer</i> names")),
      "it is in the list",
    );
    quiet(page);
  },
};
