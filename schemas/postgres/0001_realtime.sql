-- Schema `realtime`: what the PostgreSQL sink writes, and the views that people and dashboards read.
-- Applied once, in one transaction, by the sink (connectors/src/postgres/migrate.rs); never edited after a release:
-- a change is a new file with the next number.

CREATE SCHEMA IF NOT EXISTS realtime;
CREATE SCHEMA IF NOT EXISTS analytics;
CREATE SCHEMA IF NOT EXISTS errors;

-- A run is the random id made with the input topic. Views show the rows of the current run.
CREATE TABLE realtime.runs (
    run         uuid        PRIMARY KEY,
    topic       text        NOT NULL,
    partitions  integer     NOT NULL CHECK (partitions > 0),
    is_current  boolean     NOT NULL,
    first_seen  timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX runs_one_is_current ON realtime.runs (is_current) WHERE is_current;

-- How far a sink has read, written in the transaction of its rows.
CREATE TABLE realtime.sink_state (
    connector   text        NOT NULL,
    run         uuid        NOT NULL REFERENCES realtime.runs ON DELETE CASCADE,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL,
    -- Highest epoch seen of each partition of the input topic: what a lower one writes later is left out.
    epochs      jsonb       NOT NULL DEFAULT '{}',
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (connector, run, topic, partition)
);

-- The newest commit of each partition: everything below as_of_offset has its fate in these columns.
CREATE TABLE realtime.watermarks (
    run           uuid        NOT NULL REFERENCES realtime.runs ON DELETE CASCADE,
    partition     integer     NOT NULL,
    generation    integer     NOT NULL,
    epoch         bigint      NOT NULL,
    as_of_offset  bigint      NOT NULL,
    watermark     timestamptz,
    closed_before timestamptz,
    produced      bigint      NOT NULL GENERATED ALWAYS AS (as_of_offset) STORED,
    counted       bigint      NOT NULL,
    rejected      bigint      NOT NULL,
    late          bigint      NOT NULL,
    dropped       bigint      NOT NULL,
    committed_at  timestamptz,
    PRIMARY KEY (run, partition)
);

-- What one partition has counted in one dimension of one window: element i of every array belongs to keys[i].
-- One row for all keys, since they always change together: a fifteenth of the rows, the same versions.
-- U+0000 in a key, which `text` cannot hold, is stored as U+FFFD; keys that become equal by that are summed.
CREATE TABLE realtime.window_partials (
    run            uuid        NOT NULL,
    partition      integer     NOT NULL,
    generation     integer     NOT NULL,
    window_size_ms bigint      NOT NULL,
    window_start   timestamptz NOT NULL,
    dimension      text        NOT NULL,
    epoch          bigint      NOT NULL,
    as_of_offset   bigint      NOT NULL,
    lower_bound    boolean     NOT NULL,
    keys           text[]      NOT NULL,
    impressions    bigint[]    NOT NULL,
    clicks         bigint[]    NOT NULL,
    conversions    bigint[]    NOT NULL,
    cost_micros    bigint[]    NOT NULL,
    revenue_micros bigint[]    NOT NULL,
    PRIMARY KEY (run, window_size_ms, window_start, dimension, partition, generation)
) PARTITION BY RANGE (window_start);
-- Days far outside the expected range, and days that already have rows here. The sink makes a partition for each other day.
CREATE TABLE realtime.window_partials_default PARTITION OF realtime.window_partials DEFAULT;

-- The input topic as it came, for those who switch it on. `value` where the record is JSON that jsonb can hold, else `payload`.
CREATE TABLE realtime.raw_events (
    run        uuid        NOT NULL REFERENCES realtime.runs ON DELETE CASCADE,
    topic      text        NOT NULL,
    partition  integer     NOT NULL,
    "offset"   bigint      NOT NULL,
    written_at timestamptz NOT NULL,
    value      jsonb,
    payload    bytea,
    PRIMARY KEY (run, partition, "offset"),
    CHECK ((value IS NULL) <> (payload IS NULL))
);

-- The current run, and the time before which windows change no more: the least over all its partitions.
CREATE VIEW realtime.current_run AS
SELECT r.run, r.topic, r.partitions,
       (SELECT CASE WHEN count(w.closed_before) = r.partitions THEN min(w.closed_before) END
          FROM realtime.watermarks w
         WHERE w.run = r.run AND w.partition < r.partitions) AS final_before
  FROM realtime.runs r
 WHERE r.is_current;

-- Partials summed over partitions and generations; one row per window, dimension and key.
CREATE VIEW realtime.window_sums AS
SELECT p.window_size_ms,
       p.window_start,
       p.dimension,
       k.key,
       sum(k.impressions)::bigint    AS impressions,
       sum(k.clicks)::bigint         AS clicks,
       sum(k.conversions)::bigint    AS conversions,
       sum(k.cost_micros)::bigint    AS cost_micros,
       sum(k.revenue_micros)::bigint AS revenue_micros,
       bool_or(p.lower_bound)        AS lower_bound
  FROM realtime.window_partials p
 CROSS JOIN LATERAL unnest(p.keys, p.impressions, p.clicks, p.conversions, p.cost_micros, p.revenue_micros)
            AS k (key, impressions, clicks, conversions, cost_micros, revenue_micros)
 WHERE p.run = (SELECT run FROM realtime.runs WHERE is_current)
 GROUP BY p.window_size_ms, p.window_start, p.dimension, k.key;

-- Money in currency units; ratios are null where their divisor is 0.
CREATE VIEW realtime.ctr_metrics AS
SELECT CASE s.window_size_ms WHEN 60000 THEN '1m' WHEN 300000 THEN '5m' ELSE s.window_size_ms || 'ms' END AS window_size,
       s.window_start,
       s.window_start + s.window_size_ms * interval '1 millisecond' AS window_end,
       s.dimension,
       s.key,
       s.impressions,
       s.clicks,
       s.conversions,
       s.cost_micros,
       s.revenue_micros,
       round(s.cost_micros / 1e6, 6)    AS cost,
       round(s.revenue_micros / 1e6, 6) AS revenue,
       s.clicks::numeric / nullif(s.impressions, 0)           AS ctr,
       s.cost_micros / 1e6 / nullif(s.clicks, 0)              AS cpc,
       s.cost_micros / 1e6 / nullif(s.conversions, 0)         AS cpa,
       s.revenue_micros::numeric / nullif(s.cost_micros, 0)   AS roas,
       coalesce(s.window_start + s.window_size_ms * interval '1 millisecond' <= (SELECT final_before FROM realtime.current_run),
                false) AS final,
       s.lower_bound
  FROM realtime.window_sums s;

-- One row per window with at least one event.
CREATE VIEW realtime.window_totals AS
SELECT p.window_size_ms,
       p.window_start,
       sum(k.impressions)::bigint    AS impressions,
       sum(k.clicks)::bigint         AS clicks,
       sum(k.conversions)::bigint    AS conversions,
       sum(k.cost_micros)::bigint    AS cost_micros,
       sum(k.revenue_micros)::bigint AS revenue_micros
  FROM realtime.window_partials p
 CROSS JOIN LATERAL unnest(p.impressions, p.clicks, p.conversions, p.cost_micros, p.revenue_micros)
            AS k (impressions, clicks, conversions, cost_micros, revenue_micros)
 WHERE p.run = (SELECT run FROM realtime.runs WHERE is_current) AND p.dimension = 'total'
 GROUP BY p.window_size_ms, p.window_start
HAVING sum(k.impressions) > 0;

-- The breakdown is a subquery of its own, so that only the rows that a query returns pay for it.
CREATE VIEW realtime.metrics_1min AS
SELECT t.window_start,
       t.window_start + interval '1 minute' AS window_end,
       t.impressions,
       t.clicks,
       t.conversions,
       round(t.cost_micros / 1e6, 6)    AS cost,
       round(t.revenue_micros / 1e6, 6) AS revenue,
       t.clicks::numeric / nullif(t.impressions, 0)         AS ctr,
       t.cost_micros / 1e6 / nullif(t.clicks, 0)            AS cpc,
       t.cost_micros / 1e6 / nullif(t.conversions, 0)       AS cpa,
       t.revenue_micros::numeric / nullif(t.cost_micros, 0) AS roas,
       coalesce(t.window_start + interval '1 minute' <= (SELECT final_before FROM realtime.current_run), false) AS final,
       (SELECT coalesce(jsonb_object_agg(s.key, jsonb_build_object(
                   'impressions', s.impressions, 'clicks', s.clicks,
                   'ctr', s.clicks::numeric / nullif(s.impressions, 0))), '{}')
          FROM realtime.window_sums s
         WHERE s.window_size_ms = 60000 AND s.window_start = t.window_start AND s.dimension = 'site_category') AS category_ctr
  FROM realtime.window_totals t
 WHERE t.window_size_ms = 60000;

CREATE VIEW realtime.metrics_5min AS
SELECT t.window_start,
       t.window_start + interval '5 minutes' AS window_end,
       t.impressions,
       t.clicks,
       t.conversions,
       round(t.cost_micros / 1e6, 6)    AS cost,
       round(t.revenue_micros / 1e6, 6) AS revenue,
       t.clicks::numeric / nullif(t.impressions, 0)         AS ctr,
       t.cost_micros / 1e6 / nullif(t.clicks, 0)            AS cpc,
       t.cost_micros / 1e6 / nullif(t.conversions, 0)       AS cpa,
       t.revenue_micros::numeric / nullif(t.cost_micros, 0) AS roas,
       coalesce(t.window_start + interval '5 minutes' <= (SELECT final_before FROM realtime.current_run), false) AS final,
       (SELECT coalesce(jsonb_object_agg(s.key, jsonb_build_object(
                   'impressions', s.impressions, 'clicks', s.clicks,
                   'ctr', s.clicks::numeric / nullif(s.impressions, 0))), '{}')
          FROM realtime.window_sums s
         WHERE s.window_size_ms = 300000 AND s.window_start = t.window_start AND s.dimension = 'device_type') AS device_ctr
  FROM realtime.window_totals t
 WHERE t.window_size_ms = 300000;

COMMENT ON VIEW realtime.metrics_1min IS
    'One row per minute of event time. Cost, conversions and revenue are modelled (schemas/pricing.md). ctr and roas are ratios.';
COMMENT ON VIEW realtime.metrics_5min IS
    'One row per five minutes of event time. Cost, conversions and revenue are modelled (schemas/pricing.md). ctr and roas are ratios.';
COMMENT ON VIEW realtime.ctr_metrics IS
    'One row per window, dimension and key. lower_bound: some events of the key may be counted under __overflow__ instead.';
