-- What the sink passes whole rows in: an array of these is one parameter of one statement, so that nothing of a session outlives
-- its transaction (a pooler between us and the server may give the next one another session).
CREATE TYPE realtime.window_partial_row AS (
    run            uuid,
    partition      integer,
    generation     integer,
    window_size_ms bigint,
    window_start   timestamptz,
    dimension      text,
    epoch          bigint,
    as_of_offset   bigint,
    lower_bound    boolean,
    keys           text[],
    impressions    bigint[],
    clicks         bigint[],
    conversions    bigint[],
    cost_micros    bigint[],
    revenue_micros bigint[]
);

-- Where one partition's keys were too many, every key of the dimension in that window is a lower bound: its events may be under
-- __overflow__ there.
CREATE OR REPLACE VIEW realtime.window_sums AS
SELECT p.window_size_ms,
       p.window_start,
       p.dimension,
       k.key,
       sum(k.impressions)::bigint    AS impressions,
       sum(k.clicks)::bigint         AS clicks,
       sum(k.conversions)::bigint    AS conversions,
       sum(k.cost_micros)::bigint    AS cost_micros,
       sum(k.revenue_micros)::bigint AS revenue_micros,
       bool_or(bool_or(p.lower_bound)) OVER (PARTITION BY p.window_size_ms, p.window_start, p.dimension) AS lower_bound
  FROM realtime.window_partials p
 CROSS JOIN LATERAL unnest(p.keys, p.impressions, p.clicks, p.conversions, p.cost_micros, p.revenue_micros)
            AS k (key, impressions, clicks, conversions, cost_micros, revenue_micros)
 WHERE p.run = (SELECT run FROM realtime.runs WHERE is_current)
 GROUP BY p.window_size_ms, p.window_start, p.dimension, k.key;
