//! `/api/shadow`: a candidate beside the live chain.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::Request;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::{self, Deployed};
use clickmill_pipeline::shadow::{Condition, Report};
use serde::Deserialize;

use crate::error::ApiError;
use crate::routes::App;
use crate::smartmodules::{PATIENCE, deployer, read};

pub(crate) async fn start(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Report>, ApiError> {
    let body: DeployBody = read(&app, request).await?;
    app.blocking(move |app| {
        let deployer = deployer(app)?;
        match deployer.request(body)? {
            (control::Request::Deploy(candidate), options) => Ok(Json(deployer.start_shadow(*candidate, options)?)),
            _ => Err(ApiError::BadRequest("a shadow is of a module".to_owned())),
        }
    })
    .await
}

pub(crate) async fn report(State(app): State<Arc<App>>) -> Result<Json<Report>, ApiError> {
    app.blocking(|app| Ok(Json(deployer(app)?.shadow_report()?))).await
}

pub(crate) async fn stop(State(app): State<Arc<App>>) -> Result<Json<Report>, ApiError> {
    app.blocking(|app| Ok(Json(deployer(app)?.stop_shadow()?))).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PromoteBody {
    /// As in `flips<0.1%`.
    #[serde(rename = "if")]
    condition: Option<String>,
    message: String,
}

pub(crate) async fn promote(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Json<Deployed>, ApiError> {
    let body: PromoteBody = read(&app, request).await?;
    let condition = body.condition.as_deref().map(str::parse::<Condition>).transpose().map_err(ApiError::BadRequest)?;
    app.blocking(move |app| Ok(Json(deployer(app)?.promote_shadow(condition.as_ref(), &body.message, PATIENCE)?))).await
}
