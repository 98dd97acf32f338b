// Dead letters: what was rejected is shown, told about, tried and sent again.
import { quiet } from "../browser.mjs";
import { equal, holds, table, until } from "../expect.mjs";

const AT = Date.UTC(2014, 9, 21, 5, 59, 40);

export const tests = {
  async "letters are counted by rule, and one is shown byte by byte"({ browser, host }) {
    await host.append(7, AT, { click: 9 });
    await host.post("/api/topics/ad_events_raw/records", '{"id":"<b>& \u05d0"');
    await host.settled();
    const of = (stats, name) => stats.by_rule.find((r) => r.rule === name)?.letters;
    const stats = await until(async () => {
      const s = await host.get("/api/dlq/stats");
      return of(s, "range") === 7 && of(s, "json") === 1 && s;
    }, "letters");
    const page = await browser.page();
    await page.open("/dead-letters");
    await until(async () => (await table(page, "Rules")).length === stats.by_rule.length, "rules");
    const shown = Object.fromEntries((await table(page, "Rules")).map((r) => [r.Rule, r.Letters]));
    for (const rule of stats.by_rule) equal(shown[rule.error_type + ":" + rule.rule], String(rule.letters), rule.rule);
    await page.getByRole("button", { name: /parsing:\s*json/ }).click();
    holds(page.url().includes("rule=json"), "the rule is in the address");
    await until(
      async () => (await table(page, "Letters")).every((r) => r.Rule === "parsing:json"),
      "letters of that rule only",
    );
    await page.getByRole("region", { name: "Table: Letters", exact: true }).locator("button.link").first().click();
    await page.getByLabel("Payload, byte by byte").waitFor();
    const hex = await page.getByLabel("Payload, byte by byte").innerText();
    holds(hex.startsWith("00000000  7b 22 69 64 22 3a 22 3c  62 3e 26 20 d7 90 22"), "the bytes: " + hex);
    await page.getByText("it would be rejected still").waitFor();
    await browser.shot(page, "dead-letters");
    quiet(page);
  },

  async "a dry run sends nothing, and a retry asks first"({ browser, host }) {
    const page = await browser.page();
    const posts = [];
    page.on("request", (r) => r.method() === "POST" && posts.push(JSON.parse(r.postData())));
    await page.open("/dead-letters?rule=range");
    await page.getByRole("button", { name: /^Dry run of 7.letters/ }).click();
    await page.getByText("0 of 7 would pass now.").waitFor();
    equal(
      posts.map((p) => [p.dry_run, p.which]),
      [[true, { filter: { rule: "range" } }]],
      "what was posted",
    );
    await page.getByRole("button", { name: /^Retry 7/ }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
    equal(posts.length, 1, "posts after Cancel");
    await host.post("/api/dlq/letters/" + (await host.get("/api/dlq?rule=range&limit=1")).letters[0].id + "/edit", {
      raw_payload: JSON.stringify({
        id: "42",
        click: 1,
        hour: "14102105",
        C1: 1005,
        banner_pos: 0,
        site_id: "a",
        site_domain: "b",
        site_category: "50e219e0",
        app_id: "c",
        app_domain: "d",
        app_category: "07d7df22",
        device_id: "e",
        device_ip: "f",
        device_model: "g",
        device_type: 1,
        device_conn_type: 0,
        C14: 1,
        C15: 320,
        C16: 50,
        C17: 1,
        C18: 0,
        C19: 1,
        C20: -1,
        C21: 1,
        ts: AT,
      }),
    });
    await page.getByRole("button", { name: /^Retry 7/ }).click();
    await page.getByRole("dialog").getByRole("button", { name: "Send again" }).click();
    const said = page.getByRole("status").filter({ hasText: "Retry of 7" });
    await said.waitFor();
    holds(
      (await said.innerText())
        .replaceAll("\u00a0", " ")
        .includes("1 letter sent again: 1 counted; 6 would be rejected still, and stayed."),
      "what came of it: " + (await said.innerText()),
    );
    await until(
      async () => (await host.get("/api/dlq/stats?rule=range")).by_state.resolved === 1,
      "the letter is resolved",
    );
    quiet(page);
  },
};
