// What a test compares, and how a number should look: reckoned here once more, from the rows of `clickmill windows`.
import { isDeepStrictEqual } from "node:util";

export function equal(actual, expected, what) {
  if (!isDeepStrictEqual(actual, expected))
    throw new Error(
      what +
        ": found " +
        JSON.stringify(actual)?.slice(0, 300) +
        ", expected " +
        JSON.stringify(expected)?.slice(0, 300),
    );
}

export function holds(condition, what) {
  if (!condition) throw new Error(what);
}

// Until `look` gives something true; its last answer.
export async function until(look, what, ms = 8000) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(what + ": not within " + ms + " ms");
    await new Promise((done) => setTimeout(done, 25));
  }
}

const grouped = (n) => new Intl.NumberFormat("en").format(n);
export const whole = grouped;
// a / b with so many digits, rounded half up, without a floating-point number on the way.
export function ratio(a, b, digits) {
  if (Number(b) === 0) return "–";
  const scaled = (2n * BigInt(a) * 10n ** BigInt(digits) + BigInt(b)) / (2n * BigInt(b));
  const text = String(scaled).padStart(digits + 1, "0");
  return grouped(BigInt(text.slice(0, -digits))) + "." + text.slice(-digits);
}
export const ctr = (m) => (m.impressions === 0 ? "–" : ratio(m.clicks * 100, m.impressions, 2) + " %");
export const cpc = (m) => ratio(m.cost_micros, BigInt(m.clicks) * 1000000n, 4);
export const cpa = (m) => ratio(m.cost_micros, BigInt(m.conversions) * 1000000n, 4);
export const roas = (m) => ratio(m.revenue_micros, m.cost_micros, 4);
export const money = (micros, digits) => ratio(micros, 1000000, digits);

const NAMES = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
export function sums(rows, nameOf) {
  const found = new Map();
  for (const row of rows) {
    const name = nameOf(row);
    const sum = found.get(name) ?? Object.fromEntries(NAMES.map((n) => [n, 0]));
    for (const n of NAMES) sum[n] += row[n];
    found.set(name, sum);
  }
  return found;
}

// The cells of a table by the names of its columns; spaces that do not break are spaces.
export const table = (page, label) =>
  page
    .getByRole("region", { name: "Table: " + label, exact: true })
    .first()
    .evaluate((region) => {
      const text = (node) => node.textContent.replaceAll("\u00a0", " ").trim();
      const names = [...region.querySelectorAll("thead th")].map(text);
      return [...region.querySelectorAll("tbody tr")]
        .filter((tr) => tr.children.length === names.length)
        .map((tr) => Object.fromEntries([...tr.children].map((cell, i) => [names[i], text(cell)])));
    });
export const read = async (page, id) => (await page.locator("#" + id).innerText()).replaceAll("\u00a0", " ").trim();
