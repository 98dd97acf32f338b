// Chromium, and pages that fail a test when their console does.
import { createRequire } from "node:module";
import { join, resolve } from "node:path";

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
// The browser itself complains of answers that are no success, and of connections that break. The tests of refusals and
// of lost connections want those; a file of the page that is missing is an error all the same.
const wanted = (message) =>
  /net::ERR_/.test(message.text()) ||
  (message.text().startsWith("Failed to load resource") && /\/(api|health)\//.test(message.location().url));

export class Browser {
  static async open({ modules, chromium, screenshots }, base) {
    const require = createRequire(join(resolve(modules), "x.js"));
    const { existsSync } = await import("node:fs");
    const path = chromium ?? PATHS.find((p) => existsSync(p));
    if (!path) throw new Error("no Chromium is installed: apt-get install chromium");
    const browser = new Browser();
    browser.base = base;
    browser.screenshots = screenshots;
    browser.axe = require.resolve("axe-core/axe.min.js");
    browser.chromium = await require("playwright-core").chromium.launch({
      executablePath: path,
      headless: true,
      args: FLAGS,
    });
    browser.contexts = [];
    return browser;
  }

  // A page with nothing in its cache. `errors` is what its console and its scripts have complained of.
  async page({ width = 1440, height = 900, dark = false, before, base } = {}) {
    const context = await this.chromium.newContext({
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      acceptDownloads: true,
    });
    this.contexts.push(context);
    const page = await context.newPage();
    page.setDefaultTimeout(8000);
    page.errors = [];
    page.on(
      "console",
      (message) => message.type() === "error" && !wanted(message) && page.errors.push(message.text()),
    );
    page.on("pageerror", (error) => page.errors.push(String(error.stack ?? error)));
    page.on("dialog", (dialog) => {
      page.errors.push("a dialog: " + dialog.message());
      dialog.dismiss();
    });
    if (before) await page.addInitScript(before);
    page.open = (path) => page.goto((base ?? this.base) + path, { waitUntil: "load" });
    return page;
  }

  async shot(page, name) {
    await page.screenshot({ path: join(this.screenshots, name + ".png"), fullPage: true });
  }

  async closePages() {
    for (const context of this.contexts.splice(0)) await context.close();
  }

  close() {
    return this.chromium.close();
  }
}

export const quiet = (page) => {
  if (page.errors.length > 0)
    throw new Error("the console has " + page.errors.length + " errors: " + page.errors.slice(0, 3).join(" | "));
};
