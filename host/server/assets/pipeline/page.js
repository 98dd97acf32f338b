// The pipeline: where everything is, what runs there, and what has been changed.
import { html, useMemo } from "../vendor/htm/standalone.module.js";
import { get, getText, useData } from "../api.js";
import { useFeed } from "../live/feed.js";
import { Ledger } from "../ledger.js";
import { serverNow } from "../stream.js";
import { Notice, Trouble } from "../text.js";
import { sumsBy, useRates } from "./rates.js";
import { Shadow } from "./shadow.js";
import { Checkpoints, Connectors, Deployments, Partitions } from "./tables.js";
import { counters, Topology } from "./topology.js";

const EVERY_MS = 2000;

export function PipelinePage() {
  const feed = useFeed(1000, false);
  const look = useData(
    "pipeline",
    async (signal) => {
      const ask = (path) => get(path, {}, signal);
      const [status, stages, connectors, metrics] = await Promise.all([
        ask("/api/status"),
        ask("/api/smartmodules"),
        ask("/api/connectors"),
        getText("/metrics", signal),
      ]);
      return {
        status,
        stages,
        connectors: connectors.connectors,
        records: sumsBy(metrics, "clickmill_stage_records_total", "stage"),
      };
    },
    EVERY_MS,
  );
  const at = look.data;
  const rates = useRates(useMemo(() => at && counters(at.status, at.connectors, at.records), [at]));
  const now = serverNow();
  return html`<h1 tabindex="-1">Pipeline</h1>
    <${Trouble} problem=${look.problem} stale=${at !== null} again=${look.again}/>
    ${!at && !look.problem && html`<${Notice}>Reading…</${Notice}>`}
    ${at && html`<${Topology} status=${at.status} stages=${at.stages} connectors=${at.connectors} rates=${rates}
      newest=${feed.newest}/>`}
    <${Ledger} newest=${feed.newest}/>
    ${at && html`<${Partitions} status=${at.status} now=${now}/>
    <${Connectors} connectors=${at.connectors} rates=${rates}/>`}
    <${Checkpoints} now=${now}/>
    <${Deployments}/>
    <${Shadow}/>`;
}
