// A host with a token, and with a PostgreSQL that does not answer.
import { join } from "node:path";
import { Host } from "../host.mjs";
import { quiet } from "../browser.mjs";
import { equal, holds, read, table, until } from "../expect.mjs";

const TOKEN = "a-token-of-the-browser-tests";

export const tests = {
  async "the token is asked for, and PostgreSQL's absence is told where it matters"({ browser, given }) {
    const host = new Host(given.program, join(given.work, "guarded"), {
      CLICKMILL_TOKEN: TOKEN,
      DATABASE_URL: "postgres://nobody@127.0.0.1:9/none",
    });
    if (process.env.CLICKMILL_TEST_GUARDED_PORT) host.port = Number(process.env.CLICKMILL_TEST_GUARDED_PORT);
    try {
      await host.fill();
      await host.start();
      const page = await browser.page({ base: process.env.CLICKMILL_TEST_GUARDED_BASE ?? host.url });
      await page.open("/");
      await page.getByText("This server asks for its token").waitFor();
      holds((await page.locator("#tile-ctr").count()) === 0, "numbers without the token");
      await page.getByLabel(/server.token/).fill("wrong-wrong-wrong");
      await page.keyboard.press("Enter");
      await page.getByText("That was not the token.").waitFor();
      await page.getByLabel(/server.token/).fill(TOKEN);
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => /\d/.test(document.getElementById("tile-ctr")?.textContent ?? ""));
      holds(!page.url().includes(TOKEN), "the token is in the address");
      await page.getByText("PostgreSQL is not written to at the moment").waitFor({ timeout: 20000 });
      const newest = (await host.windows("1m", "total")).at(-1);
      equal(await read(page, "tile-impressions"), newest.impressions.toLocaleString("en"), "the live page goes on");
      await browser.shot(page, "postgres-down");
      await page.getByRole("link", { name: "Reports" }).click();
      await until(async () => (await table(page, "Trend")).length === 6, "reports from the host's windows");
      await page.getByText("from the host's own windows").waitFor();
      await page.getByRole("link", { name: "Pipeline" }).click();
      await until(
        async () =>
          (await table(page, "Connectors").catch(() => [])).some(
            (r) => r.Connector === "postgres" && /retrying|failed|refused|starting/.test(r.State),
          ),
        "the connector's state",
      );
      quiet(page);
    } finally {
      await host.kill();
    }
  },
};
