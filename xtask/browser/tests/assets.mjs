// What the pages are made of: as npm delivers it, small, and known to the browser from the first line on.
import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { equal, holds } from "../expect.mjs";

const ASSETS = fileURLToPath(new URL("../../../host/server/assets/", import.meta.url));
const MOST_BYTES = 1500000;
const VENDORED = {
  "htm/standalone.module.js": "htm/preact/standalone.module.js",
  "htm/LICENSE": "htm/LICENSE",
  "uplot/uPlot.esm.js": "uplot/dist/uPlot.esm.js",
  "uplot/uPlot.min.css": "uplot/dist/uPlot.min.css",
  "uplot/LICENSE": "uplot/LICENSE",
};
const files = readdirSync(ASSETS, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(ASSETS.length));

export const tests = {
  async "what is vendored is what npm delivers"({ given }) {
    for (const [ours, theirs] of Object.entries(VENDORED)) {
      holds(
        readFileSync(join(ASSETS, "vendor", ours)).equals(readFileSync(join(resolve(given.modules), theirs))),
        ours + " differs from npm's " + theirs,
      );
    }
    const known = [...Object.keys(VENDORED), "htm/LICENSE-preact", "package.json", "package-lock.json"].sort();
    equal(
      files
        .filter((f) => f.startsWith("vendor/"))
        .map((f) => f.slice(7))
        .sort(),
      known,
      "files in vendor/",
    );
  },

  async "all of it is small"() {
    const bytes = files
      .filter((f) => /\.(js|css|html|svg)$/.test(f))
      .reduce((n, f) => n + gzipSync(readFileSync(join(ASSETS, f))).length, 0);
    console.log("# " + bytes + " bytes compressed");
    holds(bytes < MOST_BYTES, bytes + " bytes compressed");
  },

  async "the shell names every module"() {
    const shell = readFileSync(join(ASSETS, "index.html"), "utf8");
    const named = [...shell.matchAll(/(?:href|src)="\/assets\/([^"]+\.js)"/g)].map((m) => m[1]).sort();
    equal(named, files.filter((f) => f.endsWith(".js")).sort(), "modules in index.html");
  },
};
