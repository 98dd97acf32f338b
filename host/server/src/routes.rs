//! The routes, and what their handlers share.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, post};
use clickmill_broker::{Broker, TopicInfo};
use tokio::sync::{Semaphore, watch};

use crate::budget::BodyBudget;
use crate::error::ApiError;
use crate::host::Host;
use crate::metrics::HttpMetrics;
use crate::options::Options;
use crate::rounds::Rounds;
use crate::{
    append, assets, blame, connectors, dlq, guard, health, live, metrics, reports, reprocess, rounds, shadow,
    smartmodules, topics, windows,
};

/// What handlers share.
pub(crate) struct App {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) options: Options,
    pub(crate) http: HttpMetrics,
    pub(crate) bodies: BodyBudget,
    /// Modules are larger than anything else that is sent, and come one at a time.
    pub(crate) modules: BodyBudget,
    pub(crate) in_flight: Semaphore,
    pub(crate) live_clients: Arc<Semaphore>,
    /// Answers of windows that may be held at once: each takes memory as long as its reader reads.
    pub(crate) window_answers: Arc<Semaphore>,
    /// Reports that may be made at once: each takes memory.
    pub(crate) report_answers: Semaphore,
    pub(crate) rounds: Rounds,
    pub(crate) frames: watch::Receiver<Arc<str>>,
}

impl App {
    /// Runs a call that may block where blocking is allowed.
    pub(crate) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let app = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&app)).await {
            Ok(result) => result,
            Err(e) => Err(ApiError::Internal(format!("a task of the server failed: {e}"))),
        }
    }

    /// A topic that must exist.
    pub(crate) fn topic(&self, name: &str) -> Result<TopicInfo, ApiError> {
        let unknown =
            || ApiError::NotFound(format!("topic {name:?} does not exist; GET /api/topics lists those that do"));
        self.broker.topic(name)?.ok_or_else(unknown)
    }
}

pub(crate) fn router(app: Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/metrics", get(metrics::scrape))
        .route("/api/openapi.json", get(assets::openapi))
        .route("/api/status", get(topics::status))
        .route("/api/windows", get(windows::list))
        .route("/api/reports/trend", get(reports::trend))
        .route("/api/reports/breakdown", get(reports::breakdown))
        .route("/api/topics", get(topics::list).post(topics::create))
        .route("/api/topics/{topic}", get(topics::one).patch(topics::alter).delete(topics::delete))
        .route("/api/savepoints", post(topics::save))
        .route("/api/topics/{topic}/records", post(append::records))
        .route("/api/topics/{topic}/partitions/{partition}/records", get(topics::records))
        .route("/api/live", get(live::stream))
        .route("/api/smartmodules", get(smartmodules::list).post(smartmodules::deploy))
        .route("/api/smartmodules/{stage}", get(smartmodules::show).merge(delete(smartmodules::remove)))
        .route("/api/deployments", get(smartmodules::history))
        .route("/api/deployments/rollback", post(smartmodules::rollback))
        .route("/api/deployments/{id}/promote", post(smartmodules::promote))
        .route("/api/pipeline", get(smartmodules::pipeline))
        .route("/api/pipeline/pause", post(smartmodules::pause))
        .route("/api/pipeline/resume", post(smartmodules::resume))
        .route("/api/connectors", get(connectors::list))
        .route("/api/connectors/apply", post(connectors::apply))
        .route("/api/connectors/{name}/start", post(connectors::start))
        .route("/api/connectors/{name}/stop", post(connectors::stop))
        .route("/api/connectors/{name}/restart", post(connectors::restart))
        .route("/api/connectors/{name}/rebuild", post(connectors::rebuild))
        .route("/api/dlq", get(dlq::list))
        .route("/api/dlq/stats", get(dlq::stats))
        .route("/api/dlq/letters/{id}", get(dlq::show))
        .route("/api/dlq/letters/{id}/edit", post(dlq::edit))
        .route("/api/dlq/retry", post(dlq::retry))
        .route("/api/dlq/purge", post(dlq::purge))
        .route("/api/shadow", get(shadow::report).post(shadow::start).delete(shadow::stop))
        .route("/api/shadow/promote", post(shadow::promote))
        .route("/api/reprocess", get(reprocess::status).post(reprocess::start).delete(reprocess::stop))
        .route("/api/blame", get(blame::records))
        .route("/api/why-late", get(blame::why_late))
        .route("/api/why-open", get(blame::why_open))
        .route("/api/logs", get(blame::logs))
        .route("/internal/topics/{topic}/rounds", post(rounds::append))
        .route("/internal/topics/{topic}/source/{source}", get(rounds::positions))
        .layer(from_fn_with_state(Arc::clone(&app), guard::token));
    // No secret and no data in these: a browser cannot send the token with the address of a page.
    let open = Router::new()
        .route("/", get(assets::page))
        .route("/assets/live.js", get(assets::script))
        .route("/assets/style.css", get(assets::style))
        .route("/assets/icon.svg", get(assets::icon))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready));
    guarded
        .merge(open)
        .method_not_allowed_fallback(async |method: Method| ApiError::MethodNotAllowed { method })
        .fallback(async || ApiError::NotFound("nothing is here; the live page is at /".to_owned()))
        .layer(from_fn_with_state(Arc::clone(&app), guard::limits))
        .layer(from_fn_with_state(Arc::clone(&app), guard::same_site))
        .layer(from_fn_with_state(Arc::clone(&app), guard::record))
        .with_state(app)
}
