// Addresses that ask for what there is not: a clear message and a way out, on every page.
import { quiet } from "../browser.mjs";
import { holds, until } from "../expect.mjs";

const IMPOSSIBLE = [
  "/?from=2014-10-22&to=2014-10-21",
  "/?from=banana",
  "/?top=0",
  "/?top=1e9",
  "/?range=9y",
  "/?from=99999999999999999999",
  "/?from=2014-13-45",
  "/?tab=__proto__",
  "/?from=1970-01-01&to=2014-10-22",
  "/?from=2099-01-01",
  "/?paused=-1",
  "/?refresh=0s",
  "/?order=%3Cscript%3E",
  "/?tab=compare&a=x&span=1y",
  "/reports?by=minute",
  "/reports?key=x",
  "/reports?from=2014-10-22&to=2014-10-22",
  "/reports?report=constructor",
  "/dead-letters?state=lost",
  "/dead-letters?since=yesterday",
];

export const tests = {
  async "an impossible address gives a message and a way out"({ browser }) {
    const page = await browser.page();
    for (const path of IMPOSSIBLE) {
      await page.open(path);
      const notice = page.locator(".notice.bad").filter({ hasText: "not possible" });
      await notice.waitFor().catch(() => {
        throw new Error(path + " is taken without a word");
      });
      holds((await notice.innerText()).length < 600, path + ": a long message");
      await notice.getByRole("link").click();
      await until(async () => (await notice.count()) === 0, path + ": the way out leads out");
    }
    await browser.shot(page, "address");
    quiet(page);
  },

  async "an unknown page leads to the live one"({ browser }) {
    const page = await browser.page();
    await page.open("/");
    await page.evaluate(() => {
      history.pushState(null, "", "/nowhere");
      dispatchEvent(new PopStateEvent("popstate"));
    });
    await page.getByText("Nothing is here").waitFor();
    await page.getByRole("link", { name: "To the live page" }).click();
    await page.locator("#tile-ctr").waitFor();
    quiet(page);
  },
};
