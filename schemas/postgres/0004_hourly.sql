-- Hours: sums of the 5-minute windows, kept ready so that a report over many days reads 5 rows an hour and not 180.
-- Derived from realtime.window_partials alone, and exact at any moment: an hour whose partials have changed since it was summed
-- is *stale*, and readers get it from its partials until it is summed again.

-- One row for all keys of a dimension, as in window_partials: a key may be longer than an index takes. The order of the primary
-- key lets one hour be replaced by one range of it.
CREATE TABLE realtime.hourly_metrics (
    run            uuid        NOT NULL,
    hour           timestamptz NOT NULL,
    dimension      text        NOT NULL,
    lower_bound    boolean     NOT NULL,
    keys           text[]      NOT NULL,
    impressions    bigint[]    NOT NULL,
    clicks         bigint[]    NOT NULL,
    conversions    bigint[]    NOT NULL,
    cost_micros    bigint[]    NOT NULL,
    revenue_micros bigint[]    NOT NULL,
    PRIMARY KEY (run, hour, dimension)
) WITH (toast_tuple_target = 8160);

-- A mark for each transaction of the sink that has written 5-minute partials of an hour. Many marks and not one that all of them
-- share: who writes rows waits for nobody who sums, and a mark that comes while an hour is being summed outlives that.
CREATE TABLE realtime.stale_hours (
    run       uuid        NOT NULL,
    hour      timestamptz NOT NULL,
    id        bigint      GENERATED ALWAYS AS IDENTITY,
    marked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, hour, id)
);

-- Sums of counters wrap, as they do in the modules: what one claims is no reason to end a reader.
CREATE FUNCTION realtime.wrapped(n numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN n BETWEEN -9223372036854775808 AND 9223372036854775807 THEN n::bigint
                ELSE (mod(mod(n + 9223372036854775808, 18446744073709551616) + 18446744073709551616, 18446744073709551616)
                      - 9223372036854775808)::bigint END
$$;

-- An hour, summed from its partials. Keys count where their window has an impression of them, as everywhere else.
-- Planned with the values that it is called with: then only the day of the hour is looked at, by its primary key.
CREATE FUNCTION realtime.hour_of_partials(of_run uuid, of_hour timestamptz)
RETURNS TABLE (dimension text, lower_bound boolean, keys text[], impressions bigint[], clicks bigint[], conversions bigint[],
               cost_micros bigint[], revenue_micros bigint[])
LANGUAGE plpgsql STABLE ROWS 5 COST 10000
SET plan_cache_mode = force_custom_plan SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    next_hour timestamptz := of_hour + interval '1 hour';
BEGIN
    RETURN QUERY
    WITH windows AS (
        SELECT p.window_start,
               p.dimension,
               k.key,
               sum(k.impressions)    AS impressions,
               sum(k.clicks)         AS clicks,
               sum(k.conversions)    AS conversions,
               sum(k.cost_micros)    AS cost_micros,
               sum(k.revenue_micros) AS revenue_micros,
               bool_or(bool_or(p.lower_bound)) OVER (PARTITION BY p.window_start, p.dimension) AS lower_bound
          FROM realtime.window_partials p
         CROSS JOIN LATERAL unnest(p.keys, p.impressions, p.clicks, p.conversions, p.cost_micros, p.revenue_micros)
                    AS k (key, impressions, clicks, conversions, cost_micros, revenue_micros)
         WHERE p.run = of_run AND p.window_size_ms = 300000 AND p.window_start >= of_hour AND p.window_start < next_hour
         GROUP BY p.window_start, p.dimension, k.key
    ), sums AS (
        SELECT w.dimension,
               w.key,
               realtime.wrapped(sum(w.impressions))    AS impressions,
               realtime.wrapped(sum(w.clicks))         AS clicks,
               realtime.wrapped(sum(w.conversions))    AS conversions,
               realtime.wrapped(sum(w.cost_micros))    AS cost_micros,
               realtime.wrapped(sum(w.revenue_micros)) AS revenue_micros,
               bool_or(w.lower_bound)                  AS lower_bound
          FROM windows w
         WHERE w.impressions > 0
         GROUP BY w.dimension, w.key
    )
    SELECT s.dimension, bool_or(s.lower_bound), array_agg(s.key), array_agg(s.impressions), array_agg(s.clicks),
           array_agg(s.conversions), array_agg(s.cost_micros), array_agg(s.revenue_micros)
      FROM sums s
     GROUP BY s.dimension;
END
$$;

-- Sums at most `most` stale hours whose oldest mark is older than `rest`: an hour that is being written is not summed after each
-- batch. In any order: one that cannot be summed holds up no other. Says how many it was; none where another session is at it.
-- To be called with READ COMMITTED: the marks go in one statement, and the partials are read in a later one, which sees
-- everything that belongs to a mark that is gone.
CREATE FUNCTION realtime.roll_up(most integer, rest interval) RETURNS integer LANGUAGE plpgsql SET jit = off AS $$
DECLARE
    stale record;
    done  integer := 0;
BEGIN
    -- The same as in connectors/src/postgres/hours.rs.
    IF NOT pg_try_advisory_xact_lock(7307480182513459572) THEN
        RETURN 0;
    END IF;
    FOR stale IN
        SELECT s.run, s.hour FROM realtime.stale_hours s
         GROUP BY s.run, s.hour HAVING min(s.marked_at) <= now() - rest
         ORDER BY random() LIMIT most
    LOOP
        DELETE FROM realtime.stale_hours s WHERE s.run = stale.run AND s.hour = stale.hour;
        DELETE FROM realtime.hourly_metrics h WHERE h.run = stale.run AND h.hour = stale.hour;
        INSERT INTO realtime.hourly_metrics (run, hour, dimension, lower_bound, keys, impressions, clicks, conversions,
                                             cost_micros, revenue_micros)
        SELECT stale.run, stale.hour, p.dimension, p.lower_bound, p.keys, p.impressions, p.clicks, p.conversions,
               p.cost_micros, p.revenue_micros
          FROM realtime.hour_of_partials(stale.run, stale.hour) p;
        done := done + 1;
    END LOOP;
    RETURN done;
END
$$;

-- Every hour of every run: as it was summed, and where it is stale, from its partials.
CREATE VIEW realtime.hours AS
SELECT h.run, h.hour, h.dimension, h.lower_bound, h.keys, h.impressions, h.clicks, h.conversions, h.cost_micros, h.revenue_micros
  FROM realtime.hourly_metrics h
 -- Hashed once, however many marks there are and whatever the planner knows of them.
 WHERE (h.run, h.hour) NOT IN (SELECT run, hour FROM realtime.stale_hours)
UNION ALL
SELECT s.run, s.hour, p.dimension, p.lower_bound, p.keys, p.impressions, p.clicks, p.conversions, p.cost_micros, p.revenue_micros
  FROM (SELECT DISTINCT run, hour FROM realtime.stale_hours) s
 CROSS JOIN LATERAL realtime.hour_of_partials(s.run, s.hour) p;

-- One row per hour, dimension and key, of the current run. Money in currency units; ratios are null where their divisor is 0.
CREATE VIEW realtime.metrics_hourly AS
SELECT h.hour AS hour_start,
       h.hour + interval '1 hour' AS hour_end,
       h.dimension,
       k.key,
       k.impressions,
       k.clicks,
       k.conversions,
       k.cost_micros,
       k.revenue_micros,
       round(k.cost_micros / 1e6, 6)    AS cost,
       round(k.revenue_micros / 1e6, 6) AS revenue,
       k.clicks::numeric / nullif(k.impressions, 0)         AS ctr,
       k.cost_micros / 1e6 / nullif(k.clicks, 0)            AS cpc,
       k.cost_micros / 1e6 / nullif(k.conversions, 0)       AS cpa,
       k.revenue_micros::numeric / nullif(k.cost_micros, 0) AS roas,
       coalesce(h.hour + interval '1 hour' <= (SELECT final_before FROM realtime.current_run), false) AS final,
       h.lower_bound
  FROM realtime.hours h
 CROSS JOIN LATERAL unnest(h.keys, h.impressions, h.clicks, h.conversions, h.cost_micros, h.revenue_micros)
            AS k (key, impressions, clicks, conversions, cost_micros, revenue_micros)
 WHERE h.run = (SELECT run FROM realtime.runs WHERE is_current);

-- What there is already.
INSERT INTO realtime.stale_hours (run, hour)
SELECT DISTINCT run, date_trunc('hour', window_start, 'UTC') FROM realtime.window_partials WHERE window_size_ms = 300000;

COMMENT ON TABLE realtime.hourly_metrics IS 'Hours as they were last summed; realtime.hours knows which of them are stale.';
COMMENT ON TABLE realtime.stale_hours IS 'Hours whose partials were written since they were summed.';
COMMENT ON VIEW realtime.metrics_hourly IS
    'One row per hour, dimension and key. Cost, conversions and revenue are modelled (schemas/pricing.md). ctr and roas are ratios.';
