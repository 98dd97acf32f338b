// Browser tests of the dashboard: real Chromium over each page, against a real host with real windows.
//
//   node run.mjs --program clickmill --modules DIR --work DIR --screenshots DIR [--base URL] [--only NAME]
//
// `--modules` is the node_modules that host/server/assets/vendor/package-lock.json was installed into, `--work` an empty
// folder for the hosts' data. `--base` is where the browser finds the pages when it is not the host itself. One line a
// test; exit code 1 when one has failed.
import { mkdirSync } from "node:fs";
import { parseArgs } from "node:util";
import { Browser } from "./browser.mjs";
import { Host } from "./host.mjs";
import * as access from "./tests/access.mjs";
import * as address from "./tests/address.mjs";
import * as assets from "./tests/assets.mjs";
import * as connection from "./tests/connection.mjs";
import * as guarded from "./tests/guarded.mjs";
import * as hostile from "./tests/hostile.mjs";
import * as letters from "./tests/letters.mjs";
import * as live from "./tests/live.mjs";
import * as marks from "./tests/marks.mjs";
import * as pipeline from "./tests/pipeline.mjs";
import * as reports from "./tests/reports.mjs";

// The order matters: the first ones look at windows that nobody adds to, the last one ends the host.
const SUITES = { assets, address, live, reports, pipeline, access, letters, marks, hostile, connection, guarded };

const { values: given } = parseArgs({
  options: Object.fromEntries(
    ["program", "modules", "work", "screenshots", "base", "chromium", "only"].map((name) => [name, { type: "string" }]),
  ),
});
for (const name of ["program", "modules", "work", "screenshots"]) {
  if (!given[name]) {
    console.error("run.mjs: --" + name + " is missing");
    process.exit(2);
  }
}
mkdirSync(given.screenshots, { recursive: true });

const host = new Host(given.program, given.work);
host.base = given.base;
let failed = 0;
try {
  await host.fill();
  await host.start();
  const browser = await Browser.open(given, given.base ?? host.url);
  for (const [suite, { tests }] of Object.entries(SUITES)) {
    if (given.only && given.only !== suite) continue;
    for (const [name, test] of Object.entries(tests)) {
      try {
        await test({ browser, host, screenshots: given.screenshots, given });
        console.log("ok " + suite + ": " + name);
      } catch (error) {
        failed++;
        const where = /tests\/\w+\.mjs:\d+/.exec(error.stack ?? "")?.[0] ?? "";
        console.log(
          "FAILED " +
            suite +
            ": " +
            name +
            ": " +
            String(error.message).split("\n").slice(0, 3).join(" ") +
            " " +
            where,
        );
      } finally {
        await browser.closePages();
      }
    }
  }
  await browser.close();
} catch (error) {
  failed++;
  console.log("FAILED the tests could not be run: " + error.message);
} finally {
  await host.kill();
}
process.exitCode = failed > 0 ? 1 : 0;
