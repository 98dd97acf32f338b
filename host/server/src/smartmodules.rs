//! `/api/smartmodules`, `/api/deployments`, `/api/pipeline`: what judges, and changing it. All of it is the deployer's
//! work; here are requests and answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Request;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::{self, Deployed, Deployer};
use clickmill_pipeline::views::modules::{self, DeploymentView, StageView};
use clickmill_schemas::DeploymentId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json::object;
use crate::routes::App;

/// Longest wait for the partitions to follow; the answer then says which have not.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn deployer(app: &App) -> Result<Arc<Deployer>, ApiError> {
    let none = || ApiError::NotFound("this host runs no workers, and so nothing is deployed in it".to_owned());
    app.host.deployer().ok_or_else(none)
}

/// A body of JSON; an empty one is an empty object.
pub(crate) async fn read<T: DeserializeOwned + Default>(app: &App, request: Request<Body>) -> Result<T, ApiError> {
    let body = app.modules.read(request).await?;
    match body.bytes.trim_ascii().is_empty() {
        true => Ok(T::default()),
        false => object(&body.bytes),
    }
}

fn stage_views(app: &App) -> Result<Vec<StageView>, ApiError> {
    let deployer = deployer(app)?;
    Ok(modules::stages(&deployer.history(), &deployer.activations()?))
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<StageView>>, ApiError> {
    app.blocking(|app| Ok(Json(stage_views(app)?))).await
}

/// A stage with the manifest that its module came with.
#[derive(Serialize)]
pub(crate) struct Shown {
    #[serde(flatten)]
    stage: StageView,
    manifest: Option<String>,
}

pub(crate) async fn show(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Shown>, ApiError> {
    app.blocking(move |app| {
        let stages = stage_views(app)?;
        let names = stages.iter().map(|s| s.stage.clone()).collect::<Vec<_>>().join(", ");
        let missing = || ApiError::NotFound(format!("there is no stage {name}; the chain is {names}"));
        let stage = stages.into_iter().find(|s| s.stage == name).ok_or_else(missing)?;
        let manifest = deployer(app)?.manifest(stage.sha256)?;
        Ok(Json(Shown { stage, manifest }))
    })
    .await
}

pub(crate) async fn history(State(app): State<Arc<App>>) -> Result<Json<Vec<DeploymentView>>, ApiError> {
    app.blocking(|app| {
        let deployer = deployer(app)?;
        Ok(Json(modules::deployments(&deployer.history(), &deployer.activations()?)))
    })
    .await
}

/// Deploys, or plans: the answer is a [`Deployed`] or a `Plan`.
pub(crate) async fn deploy(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Value>, ApiError> {
    let body: DeployBody = read(&app, request).await?;
    app.blocking(move |app| {
        let deployer = deployer(app)?;
        let plan = body.plan;
        let (request, options) = deployer.request(body)?;
        let answer = match plan {
            true => serde_json::to_value(deployer.plan(&request, &options)?),
            false => serde_json::to_value(deployer.deploy(&request, &options, PATIENCE)?),
        };
        answer.map(Json).map_err(|e| ApiError::Internal(e.to_string()))
    })
    .await
}

/// How a change other than a deploy is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ChangeBody {
    message: String,
    /// Of a rollback: the deployment to go back to.
    to: Option<DeploymentId>,
    reset_state: bool,
    plan: bool,
}

async fn change(
    app: Arc<App>,
    request: Request<Body>,
    wanted: impl FnOnce(&ChangeBody) -> Result<control::Request, ApiError>,
) -> Result<Json<Value>, ApiError> {
    let body: ChangeBody = read(&app, request).await?;
    let wanted = wanted(&body)?;
    app.blocking(move |app| {
        let deployer = deployer(app)?;
        let options = control::Options { message: body.message, partitions: None, reset_state: body.reset_state };
        let answer = match body.plan {
            true => serde_json::to_value(deployer.plan(&wanted, &options)?),
            false => serde_json::to_value::<Deployed>(deployer.deploy(&wanted, &options, PATIENCE)?),
        };
        answer.map(Json).map_err(|e| ApiError::Internal(e.to_string()))
    })
    .await
}

pub(crate) async fn rollback(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Value>, ApiError> {
    change(app, request, |body| Ok(control::Request::Rollback { to: body.to })).await
}

pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    Path(stage): Path<String>,
    request: Request<Body>,
) -> Result<Json<Value>, ApiError> {
    change(app, request, |_| Ok(control::Request::Remove { stage })).await
}

pub(crate) async fn promote(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Result<Json<Value>, ApiError> {
    let wanted = |_: &ChangeBody| {
        let bad = |_| ApiError::BadRequest(format!("a deployment's id is a number, and {id:?} is none"));
        Ok(control::Request::Promote { id: id.parse().map_err(bad)? })
    };
    change(app, request, wanted).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PauseBody {
    reason: String,
}

pub(crate) async fn pause(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Value>, ApiError> {
    let PauseBody { reason } = read(&app, request).await?;
    app.blocking(move |app| {
        deployer(app)?.pause(&reason)?;
        paused(app)
    })
    .await
}

pub(crate) async fn resume(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.blocking(|app| {
        deployer(app)?.resume()?;
        paused(app)
    })
    .await
}

pub(crate) async fn pipeline(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.blocking(paused).await
}

fn paused(app: &App) -> Result<Json<Value>, ApiError> {
    let reason = deployer(app)?.paused()?;
    Ok(Json(json!({"state": if reason.is_some() { "paused" } else { "running" }, "reason": reason})))
}
