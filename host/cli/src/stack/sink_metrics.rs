//! The sinks as Prometheus metrics, as they are at the moment of the scrape.

use std::sync::{Arc, Mutex, PoisonError};

use clickmill_connectors::{Connectors, Latency, SinkState};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{IntCounterVec, IntGaugeVec, Opts};

const LATENCY: &str = "clickmill_end_to_end_latency_seconds";
const LATENCY_HELP: &str =
    "From the append of a commit's oldest record until the sink's server has confirmed the commit";

/// Asks the sinks whenever it is asked.
pub struct SinkMetrics {
    connectors: Arc<Connectors>,
    /// Held while it is asked: one scrape after the other.
    asking: Mutex<()>,
    up: IntGaugeVec,
    offset: IntGaugeVec,
    lag: IntGaugeVec,
    rows: IntCounterVec,
    skipped: IntCounterVec,
    retries: IntCounterVec,
    errors: IntCounterVec,
    latency: Desc,
}

impl SinkMetrics {
    /// # Errors
    /// Where a name is not one for Prometheus.
    pub fn new(connectors: Arc<Connectors>) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| IntGaugeVec::new(Opts::new(name, help), &["sink"]);
        let counter = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["sink"]);
        Ok(Self {
            connectors,
            asking: Mutex::default(),
            up: gauge("clickmill_sink_up", "1 where the sink is connected and writes, else 0")?,
            offset: gauge("clickmill_sink_offset", "Everything below this offset is in the sink's server")?,
            lag: gauge("clickmill_sink_lag_records", "Records of the sink's topic that its server does not have yet")?,
            rows: counter("clickmill_sink_rows_written_total", "Rows or hashes written since the host's start")?,
            skipped: counter(
                "clickmill_sink_skipped_total",
                "Records or rows that the server cannot hold, since the host's start",
            )?,
            retries: counter("clickmill_sink_retries_total", "Failures that the sink tried again after")?,
            errors: counter(
                "clickmill_sink_errors_total",
                "Rows or records that the server refused, since the host's start",
            )?,
            latency: Desc::new(LATENCY.into(), LATENCY_HELP.into(), vec!["sink".into()], Default::default())?,
        })
    }

    fn gauges(&self) -> [&IntGaugeVec; 3] {
        [&self.up, &self.offset, &self.lag]
    }

    fn counters(&self) -> [&IntCounterVec; 4] {
        [&self.rows, &self.skipped, &self.retries, &self.errors]
    }
}

/// The sinks count by themselves: here it is written as Prometheus has it.
fn histogram(sink: &str, latency: &Latency) -> Metric {
    let mut histogram = Histogram::default();
    histogram.set_sample_count(latency.observations);
    histogram.set_sample_sum(latency.sum_seconds);
    let bucket = |(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    histogram.set_bucket(latency.up_to().map(bucket).collect());
    let mut label = LabelPair::default();
    label.set_name("sink".to_owned());
    label.set_value(sink.to_owned());
    let mut metric = Metric::from_label(vec![label]);
    metric.set_histogram(histogram);
    metric
}

impl Collector for SinkMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(Collector::desc);
        let others = gauges.chain(self.counters().into_iter().flat_map(Collector::desc));
        others.chain([&self.latency]).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _turn = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // Of a connector that was removed nothing is told any more.
        self.gauges().into_iter().for_each(IntGaugeVec::reset);
        self.counters().into_iter().for_each(IntCounterVec::reset);
        let mut latencies = Vec::new();
        for sink in self.connectors.handles() {
            let (status, figures) = (sink.status(), sink.figures());
            latencies.extend(figures.latency.map(|latency| histogram(&status.name, &latency)));
            let integer = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let up = i64::from(status.state == SinkState::Running);
            for (gauge, value) in self.gauges().into_iter().zip([up, integer(status.offset.0), integer(status.lag)]) {
                gauge.with_label_values(&[&status.name]).set(value);
            }
            let totals = [status.rows_written, status.skipped, status.retries, figures.refused];
            for (counter, total) in self.counters().into_iter().zip(totals) {
                counter.with_label_values(&[&status.name]).inc_by(total);
            }
        }
        let gauges = self.gauges().into_iter().flat_map(Collector::collect);
        let mut families: Vec<_> = gauges.chain(self.counters().into_iter().flat_map(Collector::collect)).collect();
        let mut latency = MetricFamily::default();
        latency.set_name(LATENCY.to_owned());
        latency.set_help(LATENCY_HELP.to_owned());
        latency.set_field_type(MetricType::HISTOGRAM);
        latency.set_metric(latencies);
        families.push(latency);
        families
    }
}
