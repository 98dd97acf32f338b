//! `/metrics`: what the log and the commits say at the moment of the scrape, the server's own counters, the process's, and the
//! host's. `docs/METRICS.md` has the table of all of them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clickmill_pipeline::views::standing::Standing;
use clickmill_pipeline::views::status as view_status;
use clickmill_pipeline::views::status::{RunState, Status};
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::dlq_rate::{DlqRate, THRESHOLD};
use crate::error::ApiError;
use crate::routes::App;
use crate::status_metrics::{LedgerNames, integer, of_status};

/// Counters of the server itself.
pub(crate) struct HttpMetrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    dlq: Mutex<DlqRate>,
    standing: Mutex<Standing>,
    names: LedgerNames,
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
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let version = Opts::new("clickmill_build_info", "The program that runs; always 1");
        let build = IntGauge::with_opts(version.const_label("version", env!("CARGO_PKG_VERSION")))?;
        build.set(1);
        registry.register(Box::new(build))?;
        let (dlq, standing, names) = (Mutex::default(), Mutex::default(), LedgerNames::default());
        Ok(Self { registry, requests, seconds, dlq, standing, names })
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
        let status = app.status()?;
        let bad = |e: prometheus::Error| ApiError::Internal(format!("metrics: {e}"));
        let mut families = app.host.registry().gather();
        let letters = app.letters(&status).map_err(bad)?;
        let of_status = of_status(&status, &*app.broker, &app.http.names).map_err(bad)?;
        let paused = app.paused()?;
        for more in [app.http.registry.gather(), of_status.gather(), letters.gather(), paused] {
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
    /// What the commits say, from those who made them where they are of this process.
    fn status(&self) -> Result<Status, ApiError> {
        let Some(workers) = self.host.newest_commits() else {
            return Ok(view_status::status(&*self.broker, RunState::Running, Vec::new())?);
        };
        let mut standing = self.http.standing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(standing.status(&*self.broker, RunState::Running, &workers)?)
    }

    /// Whether the workers stand still, where there are some.
    fn paused(&self) -> Result<Vec<MetricFamily>, ApiError> {
        let Some(deployer) = self.host.deployer() else { return Ok(Vec::new()) };
        let bad = |e: prometheus::Error| ApiError::Internal(format!("metrics: {e}"));
        let paused =
            IntGauge::new("clickmill_pipeline_paused", "1 while the workers stand still, else 0").map_err(bad)?;
        paused.set(i64::from(deployer.paused()?.is_some()));
        Ok(paused.collect())
    }

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
