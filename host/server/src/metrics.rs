//! `/metrics`: what the log and the commits say at the moment of the scrape, the server's own counters, and the host's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clickmill_pipeline::views::status as view_status;
use clickmill_pipeline::views::status::{RunState, Status};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::dlq_rate::{DlqRate, THRESHOLD};
use crate::error::ApiError;
use crate::routes::App;

/// Counters of the server itself.
pub(crate) struct HttpMetrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    dlq: Mutex<DlqRate>,
}

impl HttpMetrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("clickmill_http_requests_total", "Requests answered, by method, route and status"),
            &["method", "route", "status"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "clickmill_http_request_duration_seconds",
                "Time until the head of the answer, by route",
            ),
            &["route"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { registry, requests, seconds, dlq: Mutex::default() })
    }

    pub(crate) fn observe(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        // Methods are free text on the wire: name the usual ones, so that nobody fills memory with labels.
        let method = match method.as_str() {
            known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => known,
            _ => "other",
        };
        self.requests.with_label_values(&[method, route, status.as_str()]).inc();
        self.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }
}

pub(crate) async fn scrape(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.blocking(|app| {
        let status = view_status::status(&*app.broker, RunState::Running, Vec::new())?;
        let bad = |e: prometheus::Error| ApiError::Internal(format!("metrics: {e}"));
        let mut families = app.host.registry().gather();
        let letters = app.letters(&status).map_err(bad)?;
        for more in [app.http.registry.gather(), of_status(&status).map_err(bad)?.gather(), letters.gather()] {
            // A name that the host gives already is the host's: twice would make the whole page unreadable.
            let new: Vec<MetricFamily> =
                more.into_iter().filter(|f| families.iter().all(|known| known.name() != f.name())).collect();
            families.extend(new);
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text).map_err(bad)?;
        Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
    })
    .await
}

impl App {
    /// Dead letters as metrics.
    fn letters(&self, status: &Status) -> Result<Registry, prometheus::Error> {
        let registry = Registry::new();
        let fates = &status.ledger.fates;
        let mut rate = self.http.dlq.lock().unwrap_or_else(PoisonError::into_inner);
        let share = rate.observe(Instant::now(), fates.accounted(), fates.rejected);
        for (name, help, value) in [
            ("clickmill_dlq_rate_ratio", "Rejected records of those processed in the last minute, about", share),
            ("clickmill_dlq_rate_threshold_ratio", "Beyond this rate somebody should look", THRESHOLD),
        ] {
            let gauge = Gauge::new(name, help)?;
            gauge.set(value);
            registry.register(Box::new(gauge))?;
        }
        if let Some(dlq) = self.host.dlq() {
            let letters = IntGaugeVec::new(Opts::new("clickmill_dead_letters", "Dead letters by state"), &["state"])?;
            for (state, n) in dlq.counts() {
                letters.with_label_values(&[state.name()]).set(integer(n));
            }
            registry.register(Box::new(letters))?;
        }
        Ok(registry)
    }
}

/// Offsets, lags, fates and watermarks as metrics.
fn of_status(status: &Status) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let offsets = |name: &str, help: &str| -> Result<IntGaugeVec, prometheus::Error> {
        let gauge = IntGaugeVec::new(Opts::new(name, help), &["topic", "partition"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    };
    let start = offsets("clickmill_log_start_offset", "Oldest offset in the log")?;
    let end = offsets("clickmill_log_end_offset", "Offset that the next durable record gets")?;
    let processed = offsets("clickmill_processed_offset", "Exclusive end of what has its fate and its results")?;
    let lag = offsets("clickmill_lag_records", "Records in the log that are not processed yet")?;
    let produced = counters(&registry, "clickmill_produced_records_total", "Records that the log was ever given", &[])?;
    let fates = counters(
        &registry,
        "clickmill_ledger_records_total",
        "Processed records by fate: counted, rejected, late, dropped",
        &["fate"],
    )?;
    let rejected = counters(&registry, "clickmill_rejected_records_total", "Rejected records by rule", &["rule"])?;
    let dropped = counters(&registry, "clickmill_dropped_records_total", "Dropped records by reason", &["reason"])?;
    let seconds = |name: &str, help: &str| -> Result<GaugeVec, prometheus::Error> {
        let gauge = GaugeVec::new(Opts::new(name, help), &["topic", "partition"])?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    };
    let watermark = seconds("clickmill_watermark_timestamp_seconds", "Event time that the partition has reached")?;
    let closed =
        seconds("clickmill_closed_before_timestamp_seconds", "Windows ending by this event time change no more")?;
    let committed = seconds("clickmill_last_commit_timestamp_seconds", "Wall clock of the newest commit")?;

    for topic in &status.topics {
        for p in &topic.partitions {
            let labels = [topic.topic.as_str(), &p.partition.to_string()];
            start.with_label_values(&labels).set(integer(p.log_start_offset.0));
            end.with_label_values(&labels).set(integer(p.log_end_offset.0));
        }
    }
    for p in &status.partitions {
        let number = p.partition.to_string();
        let labels = [p.topic.as_str(), &number];
        processed.with_label_values(&labels).set(integer(p.processed_offset.0));
        lag.with_label_values(&labels).set(integer(p.lag));
        for (gauge, ms) in
            [(&watermark, p.watermark_ms), (&closed, p.closed_before_ms), (&committed, p.committed_at_ms)]
        {
            if let Some(ms) = ms {
                gauge.with_label_values(&labels).set(ms as f64 / 1_000.0);
            }
        }
        produced.with_label_values(&labels).inc_by(p.ledger.produced);
        let f = &p.ledger.fates;
        for (fate, n) in [("counted", f.counted), ("rejected", f.rejected), ("late", f.late), ("dropped", f.dropped)] {
            fates.with_label_values(&[labels[0], labels[1], fate]).inc_by(n);
        }
        for (rule, n) in &f.rejected_by_rule {
            rejected.with_label_values(&[labels[0], labels[1], rule]).inc_by(*n);
        }
        for (reason, n) in &f.dropped_by_reason {
            dropped.with_label_values(&[labels[0], labels[1], reason]).inc_by(*n);
        }
    }
    let balanced =
        IntGauge::new("clickmill_ledger_balanced", "1 where produced = counted + rejected + late + dropped + lag")?;
    balanced.set(i64::from(status.ledger.balances()));
    registry.register(Box::new(balanced))?;
    modules(&registry, status)?;
    Ok(registry)
}

fn counters(registry: &Registry, name: &str, help: &str, more: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    let labels = [&["topic", "partition"], more].concat();
    let counter = IntCounterVec::new(Opts::new(name, help), &labels)?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
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

fn integer(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
