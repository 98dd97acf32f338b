//! What the commits and the log say, as metrics: offsets, lags, fates, watermarks, sizes, the modules in force.

use std::time::{SystemTime, UNIX_EPOCH};

use clickmill_broker::{Broker, TopicPartition};
use clickmill_pipeline::metrics::names::{MOST_RULES, Names};
use clickmill_pipeline::views::status::{PartitionView, Status};
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Rules and reasons that are told apart: those of modules are any text.
pub(crate) struct LedgerNames {
    rules: Names,
    reasons: Names,
}

impl Default for LedgerNames {
    fn default() -> Self {
        Self { rules: Names::new(MOST_RULES), reasons: Names::new(MOST_RULES) }
    }
}

/// All of them, of one moment.
pub(crate) fn of_status(
    status: &Status,
    broker: &dyn Broker,
    names: &LedgerNames,
) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    log(&registry, status, broker)?;
    partitions(&registry, &status.partitions)?;
    fates(&registry, status, names)?;
    modules(&registry, status)?;
    Ok(registry)
}

fn of_partition(registry: &Registry, name: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    let gauge = IntGaugeVec::new(Opts::new(name, help), &["topic", "partition"])?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

fn seconds_of_partition(registry: &Registry, name: &str, help: &str) -> Result<GaugeVec, prometheus::Error> {
    let gauge = GaugeVec::new(Opts::new(name, help), &["topic", "partition"])?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

/// What each partition of each topic holds.
fn log(registry: &Registry, status: &Status, broker: &dyn Broker) -> Result<(), prometheus::Error> {
    let start = of_partition(registry, "clickmill_log_start_offset", "Oldest offset in the log")?;
    let end = of_partition(registry, "clickmill_log_end_offset", "Offset that the next durable record gets")?;
    let bytes = of_partition(registry, "clickmill_log_bytes", "Bytes of the partition's segments")?;
    for topic in &status.topics {
        for p in &topic.partitions {
            let labels = [topic.topic.as_str(), &p.partition.to_string()];
            start.with_label_values(&labels).set(integer(p.log_start_offset.0));
            end.with_label_values(&labels).set(integer(p.log_end_offset.0));
            // A topic that has gone since has no bytes.
            let at = TopicPartition::new(topic.topic.as_str(), p.partition);
            if let Ok(Some(n)) = broker.stored_bytes(&at) {
                bytes.with_label_values(&labels).set(integer(n));
            }
        }
    }
    Ok(())
}

/// How far each partition of the input is.
fn partitions(registry: &Registry, partitions: &[PartitionView]) -> Result<(), prometheus::Error> {
    let integers = |name: &str, help: &str| of_partition(registry, name, help);
    let seconds = |name: &str, help: &str| seconds_of_partition(registry, name, help);
    let processed = integers("clickmill_processed_offset", "Exclusive end of what has its fate and its results")?;
    let lag = integers("clickmill_lag_records", "Records in the log that are not processed yet")?;
    let watermark = seconds("clickmill_watermark_timestamp_seconds", "Event time that the partition has reached")?;
    let closed =
        seconds("clickmill_closed_before_timestamp_seconds", "Windows ending by this event time change no more")?;
    let committed = seconds("clickmill_last_commit_timestamp_seconds", "Wall clock of the newest commit")?;
    let behind = seconds("clickmill_watermark_lag_seconds", "Wall clock less the partition's watermark")?;
    let skew = seconds("clickmill_watermark_skew_seconds", "The greatest watermark of all partitions less this one's")?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    let greatest_ms = partitions.iter().filter_map(|p| p.watermark_ms).max();
    for p in partitions {
        let number = p.partition.to_string();
        let labels = [p.topic.as_str(), &number];
        processed.with_label_values(&labels).set(integer(p.processed_offset.0));
        lag.with_label_values(&labels).set(integer(p.lag));
        let less = |from_ms: Option<i64>| from_ms.zip(p.watermark_ms).map(|(from, ms)| from.saturating_sub(ms));
        for (gauge, ms) in [
            (&watermark, p.watermark_ms),
            (&closed, p.closed_before_ms),
            (&committed, p.committed_at_ms),
            (&behind, less(Some(now_ms))),
            (&skew, less(greatest_ms)),
        ] {
            if let Some(ms) = ms {
                gauge.with_label_values(&labels).set(ms as f64 / 1_000.0);
            }
        }
    }
    Ok(())
}

/// What became of the records.
fn fates(registry: &Registry, status: &Status, names: &LedgerNames) -> Result<(), prometheus::Error> {
    let counters = |name: &str, help: &str, more: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
        let counter = IntCounterVec::new(Opts::new(name, help), &[&["topic", "partition"], more].concat())?;
        registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    };
    let produced = counters("clickmill_produced_records_total", "Records that the log was ever given", &[])?;
    let fates = counters(
        "clickmill_ledger_records_total",
        "Processed records by fate: counted, rejected, late, dropped",
        &["fate"],
    )?;
    let rejected = counters("clickmill_rejected_records_total", "Rejected records by rule", &["rule"])?;
    let dropped = counters("clickmill_dropped_records_total", "Dropped records by reason", &["reason"])?;
    for p in &status.partitions {
        let number = p.partition.to_string();
        let (topic, partition) = (p.topic.as_str(), number.as_str());
        produced.with_label_values(&[topic, partition]).inc_by(p.ledger.produced);
        let f = &p.ledger.fates;
        for (fate, n) in [("counted", f.counted), ("rejected", f.rejected), ("late", f.late), ("dropped", f.dropped)] {
            fates.with_label_values(&[topic, partition, fate]).inc_by(n);
        }
        for (rule, n) in &f.rejected_by_rule {
            rejected.with_label_values(&[topic, partition, &names.rules.label(rule)]).inc_by(*n);
        }
        for (reason, n) in &f.dropped_by_reason {
            dropped.with_label_values(&[topic, partition, &names.reasons.label(reason)]).inc_by(*n);
        }
    }
    let balanced =
        IntGauge::new("clickmill_ledger_balanced", "1 where produced = counted + rejected + late + dropped + lag")?;
    balanced.set(i64::from(status.ledger.balances()));
    registry.register(Box::new(balanced))
}

fn modules(registry: &Registry, status: &Status) -> Result<(), prometheus::Error> {
    for m in &status.modules {
        let opts = Opts::new("clickmill_module_info", "A module in force; always 1")
            .const_label("stage", &m.stage)
            .const_label("name", &m.name)
            .const_label("version", &m.version)
            .const_label("sha256", m.sha256.to_string());
        let info = Gauge::with_opts(opts)?;
        info.set(1.0);
        registry.register(Box::new(info))?;
    }
    Ok(())
}

pub(crate) fn integer(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
