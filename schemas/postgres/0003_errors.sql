-- Schema `errors`: the dead letters that were given up, and every attempt to have one taken in after all.
-- Written by the PostgreSQL sink from the topic ad_events_dlq (connectors/src/postgres/letters.rs); applied once, never edited
-- after a release. Whoever drops the schema `realtime` (with its list of what was applied) leaves these tables: they are taken over.

-- One row per letter that was given up. `id` names its origin: PARTITION-OFFSET of a record of the input topic, FILE:LINE of a
-- line, CONNECTOR:TOPIC-PARTITION-OFFSET of a row that a server refused; the nil UUID is the run of those that no run judged.
-- The day of the first rejection is part of the key because the table is partitioned by it.
CREATE TABLE IF NOT EXISTS errors.dlq_messages (
    run               uuid        NOT NULL,
    id                text        NOT NULL,
    error_timestamp   timestamptz NOT NULL,
    state             text        NOT NULL CHECK (state IN ('waiting', 'retrying', 'resolved', 'dead')),
    reason            text        NOT NULL,
    error_type        text        NOT NULL,
    rule              text        NOT NULL,
    message           text        NOT NULL,
    stacktrace        text,
    -- As raw_encoding says: the text itself, or Base64 where the bytes are no UTF-8, or hold U+0000, which `text` cannot.
    raw_payload       text        NOT NULL,
    raw_encoding      text        NOT NULL CHECK (raw_encoding IN ('utf8', 'base64')),
    -- Bytes of the whole value, where raw_payload is its beginning.
    raw_payload_bytes bigint,
    edited_payload    text,
    edited_encoding   text,
    retry_count       bigint      NOT NULL,
    origin_topic      text,
    origin_partition  integer,
    origin_offset     bigint,
    origin_file       text,
    origin_line       bigint,
    connector         text,
    stage             text,
    module_digest     text,
    deployment        bigint,
    changed_at        timestamptz NOT NULL,
    PRIMARY KEY (run, id, error_timestamp)
) PARTITION BY RANGE (error_timestamp);
CREATE TABLE IF NOT EXISTS errors.dlq_messages_default PARTITION OF errors.dlq_messages DEFAULT;
CREATE INDEX IF NOT EXISTS dlq_messages_by_rule ON errors.dlq_messages (error_type, rule, error_timestamp);

-- One row per attempt, of all letters.
CREATE TABLE IF NOT EXISTS errors.retry_history (
    run          uuid        NOT NULL,
    id           text        NOT NULL,
    attempt      bigint      NOT NULL,
    attempted_at timestamptz NOT NULL,
    outcome      text        NOT NULL,
    deployment   bigint,
    rule         text,
    message      text,
    PRIMARY KEY (run, id, attempt, attempted_at)
) PARTITION BY RANGE (attempted_at);
CREATE TABLE IF NOT EXISTS errors.retry_history_default PARTITION OF errors.retry_history DEFAULT;

-- The letters of the run that readers take, and those that no run judged.
CREATE OR REPLACE VIEW errors.current_messages AS
SELECT m.*
  FROM errors.dlq_messages m
 WHERE m.run = '00000000-0000-0000-0000-000000000000' OR m.run = (SELECT run FROM realtime.runs WHERE is_current);

CREATE OR REPLACE VIEW errors.rate_per_minute AS
SELECT date_trunc('minute', error_timestamp) AS minute,
       error_type,
       rule,
       count(*) AS letters
  FROM errors.current_messages
 GROUP BY 1, 2, 3;

CREATE OR REPLACE VIEW errors.by_rule AS
SELECT error_type,
       rule,
       count(*)                                   AS letters,
       count(*) FILTER (WHERE state = 'dead')     AS dead,
       count(*) FILTER (WHERE state = 'resolved') AS resolved,
       min(error_timestamp)                       AS oldest,
       max(error_timestamp)                       AS newest
  FROM errors.current_messages
 GROUP BY 1, 2;

COMMENT ON TABLE errors.dlq_messages IS 'Dead letters that were given up; state follows what becomes of them.';
COMMENT ON TABLE errors.retry_history IS 'One row per attempt to have a rejected record taken in after all.';
