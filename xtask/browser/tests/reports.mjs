// Reports: sums of the windows, with Wilson's interval, and as the CSV that is downloaded.
import { readFileSync } from "node:fs";
import { quiet } from "../browser.mjs";
import { ctr, equal, holds, sums, table, until, whole } from "../expect.mjs";

const interval = ({ clicks, impressions }) => {
  const z = 1.959963984540054;
  const [p, zz] = [clicks / impressions, z * z];
  const middle = (p + zz / (2 * impressions)) / (1 + zz / impressions);
  const half =
    (z / (1 + zz / impressions)) * Math.sqrt((p * (1 - p)) / impressions + zz / (4 * impressions * impressions));
  return [middle - half, middle + half];
};

// Whether 1.96 or all of its digits were used shows in the last digit that is printed.
function intervalIs(shown, m, what) {
  const found = shown.split(" – ").map((text) => parseFloat(text) / 100);
  interval(m).forEach((bound, i) =>
    holds(Math.abs(found[i] - bound) < 0.0003, what + ": interval " + shown + ", expected " + bound),
  );
}

async function csvOf(page) {
  const [file] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("button", { name: "Download CSV" }).click(),
  ]);
  const lines = readFileSync(await file.path(), "utf8")
    .trim()
    .split("\r\n")
    .map((line) => line.split(","));
  return lines.slice(1).map((cells) => Object.fromEntries(lines[0].map((name, i) => [name, cells[i]])));
}

export const tests = {
  async "CTR by hour is the sum of that hour's windows"({ browser, host }) {
    await host.delivered();
    const hours = [...sums(await host.windows("5m", "total"), (w) => Math.floor(w.start_ms / 3600000))];
    const page = await browser.page();
    await page.open("/reports");
    await until(async () => (await table(page, "Trend")).length === hours.length, hours.length + " hours");
    const shown = await table(page, "Trend");
    equal(
      shown.map((r) => [r.Impressions, r.Clicks, r.CTR]),
      hours.map(([, m]) => [whole(m.impressions), whole(m.clicks), ctr(m)]),
      "hours",
    );
    hours.forEach(([, m], i) => intervalIs(shown[i]["95 % interval"], m, shown[i].Hour));
    const csv = await csvOf(page);
    equal(
      csv.map((r) => [Number(r.impressions), Number(r.clicks), Number(r.cost_micros)]),
      hours.map(([, m]) => [m.impressions, m.clicks, m.cost_micros]),
      "the CSV",
    );
    await browser.shot(page, "reports-trend");
    quiet(page);
  },

  async "every breakdown has the sums of its keys, in the table and in the CSV"({ browser, host }) {
    await host.delivered();
    for (const dimension of ["device_type", "site_category", "app_category", "banner_pos"]) {
      const keys = [...sums(await host.windows("5m", dimension), (w) => w.key)];
      const page = await browser.page({ dark: dimension === "site_category" });
      await page.open("/reports?top=1000&report=" + dimension);
      const name = {
        device_type: "Device type",
        site_category: "Site category",
        app_category: "App category",
        banner_pos: "Banner position",
      }[dimension];
      await until(async () => (await table(page, name)).length === keys.length, keys.length + " keys of " + dimension);
      const shown = new Map((await table(page, name)).map((r) => [r[name], r]));
      for (const [key, m] of keys) {
        const row = shown.get(key);
        equal(
          [row?.Impressions, row?.Clicks, row?.CTR],
          [whole(m.impressions), whole(m.clicks), ctr(m)],
          dimension + " " + key,
        );
        intervalIs(row["95 % interval"], m, dimension + " " + key);
      }
      const csv = await csvOf(page);
      equal(
        csv.map((r) => r[dimension]),
        (await table(page, name)).map((r) => r[name]),
        "keys of the CSV, in the table's order",
      );
      holds(
        (await page.locator(".bar-cell line").count()) >= keys.filter(([, m]) => m.impressions > 0).length,
        "an error bar for every key",
      );
      if (dimension === "site_category") await browser.shot(page, "reports-sites-dark");
      quiet(page);
    }
  },

  async "a bar leads to its key's trend, and the filter can be taken away"({ browser, host }) {
    await host.delivered();
    const keys = [...sums(await host.windows("5m", "device_type"), (w) => w.key)].sort(
      (a, b) => b[1].impressions - a[1].impressions,
    );
    const page = await browser.page();
    await page.open("/reports?report=device_type");
    await page.locator(".bar-button").first().click();
    await until(async () => (await page.locator(".filter").innerText()).includes(keys[0][0]), "the filter");
    await page.getByRole("combobox", { name: "By", exact: true }).selectOption("weekday");
    await until(async () => (await table(page, "Trend")).length === 1, "one weekday");
    const [row] = await table(page, "Trend");
    equal([row.Impressions, row.Clicks], [whole(keys[0][1].impressions), whole(keys[0][1].clicks)], "the key's sums");
    await page.getByRole("button", { name: "Remove filter" }).click();
    await until(async () => (await table(page, "Trend"))[0]?.Impressions !== row.Impressions, "all keys again");
    quiet(page);
  },

  async "campaigns say what they wait for"({ browser }) {
    const page = await browser.page();
    await page.open("/reports?report=campaign");
    await page.getByText("There are no campaign figures yet.").waitFor();
    quiet(page);
  },
};
