// The pipeline's page and the health page say what the API says.
import { quiet } from "../browser.mjs";
import { equal, holds, read, table, until, whole } from "../expect.mjs";

export const tests = {
  async "ledger, partitions, modules and connectors are those of the host"({ browser, host }) {
    const page = await browser.page();
    await page.open("/pipeline");
    await page.getByRole("heading", { name: "Topology" }).waitFor();
    const status = await host.get("/api/status");
    for (const fate of ["produced", "counted", "rejected", "late", "dropped", "waiting"])
      equal(await read(page, fate), whole(status.ledger[fate]), fate);
    await page.getByText("it balances").waitFor();
    const partitions = await table(page, "Partitions");
    equal(
      partitions.map((p) => [p.Partition, p.Processed, p.Lag]),
      status.partitions.map((p) => [p.topic + "/" + p.partition, whole(p.processed_offset), whole(p.lag)]),
      "partitions",
    );
    const flow = await page.locator(".flow").innerText();
    for (const module of status.modules)
      holds(
        flow.includes(module.name + " " + module.version) && flow.includes(module.sha256.slice(0, 12)),
        module.stage + " with its version",
      );
    const { connectors } = await host.get("/api/connectors");
    const names = (await table(page, "Connectors")).map((r) => r.Connector);
    for (const c of connectors)
      holds(
        names.some((name) => name.startsWith(c.name)),
        "connector " + c.name,
      );
    equal((await table(page, "Deployments")).length, (await host.get("/api/deployments")).length, "deployments");
    await browser.shot(page, "pipeline-light");
    quiet(page);
  },

  async "checkpoints are read back when that is asked for"({ browser, host }) {
    const page = await browser.page();
    await page.open("/pipeline");
    const { checkpoints } = await host.get("/api/checkpoints");
    await until(
      async () => (await table(page, "Checkpoints")).length >= Math.min(1, checkpoints.length),
      "checkpoints",
    );
    await page.getByRole("button", { name: "Verify" }).click();
    await page.getByText("read back: all are sound").waitFor();
    quiet(page);
  },

  async "a shadow's matrix adds up"({ browser, host }) {
    await host.post("/api/shadow", { stage: "validate", params: { max_string_bytes: "19" } });
    const at = Date.UTC(2014, 9, 21, 5, 59, 30);
    await host.append(40, at);
    await host.append(30, at, { site_domain: "x".repeat(40) });
    const page = await browser.page();
    await page.open("/pipeline");
    await until(async () => (await host.get("/api/shadow")).records === 70, "the shadow has seen all");
    await until(async () => {
      const rows = await table(page, "Verdicts of both").catch(() => []);
      return rows.length === 1 && rows[0].passed === "40" && rows[0]["rejected:string_too_long"] === "30";
    }, "40 and 30 in the matrix");
    await browser.shot(page, "pipeline-shadow");
    await fetch(host.url + "/api/shadow", { method: "DELETE" });
    quiet(page);
  },

  async "health shows every limit, and no secret"({ browser, host }) {
    const health = await host.get("/api/health");
    const page = await browser.page({ dark: true });
    await page.open("/health");
    await page.getByText("The host does its work.").waitFor();
    const all = async () => [...(await table(page, "Limits")), ...(await table(page, "Thresholds"))];
    await until(async () => (await all().catch(() => [])).length === health.limits.length, "limits");
    const names = (await all()).map((r) => r.Setting).sort();
    equal(names, health.limits.map((l) => l.name).sort(), "names of the limits");
    holds((await table(page, "Settings")).length > 5, "settings");
    const text = await page.locator("main").innerText();
    holds(!/:\/\/[^\s:]+:(?!\*\*\*)[^\s@]+@/.test(text), "a password is on the page");
    await browser.shot(page, "health-dark");
    quiet(page);
  },
};
