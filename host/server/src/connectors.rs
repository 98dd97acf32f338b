//! `/api/connectors`: what copies topics into servers, and changing it. What connectors are is the process's matter.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::host::{ConnectorChange, ConnectorRefusal};
use crate::routes::App;

impl From<ConnectorRefusal> for ApiError {
    fn from(refusal: ConnectorRefusal) -> Self {
        match refusal {
            ConnectorRefusal::Unknown(text) => Self::NotFound(text),
            ConnectorRefusal::BadFile(text) => Self::Refused(text),
            ConnectorRefusal::Closed(text) | ConnectorRefusal::NotEmptied(text) => Self::Conflict(text),
            ConnectorRefusal::Unwritten(text) => Self::Internal(text),
        }
    }
}

fn all(app: &App) -> Json<Value> {
    Json(json!({"connectors": app.host.connectors()}))
}

pub(crate) async fn list(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.blocking(|app| Ok(all(app))).await
}

pub(crate) async fn start(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    change(app, name, ConnectorChange::Start).await
}

pub(crate) async fn stop(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    change(app, name, ConnectorChange::Stop).await
}

pub(crate) async fn restart(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    change(app, name, ConnectorChange::Restart).await
}

pub(crate) async fn rebuild(State(app): State<Arc<App>>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    change(app, name, ConnectorChange::Rebuild).await
}

async fn change(app: Arc<App>, name: String, change: ConnectorChange) -> Result<Json<Value>, ApiError> {
    app.blocking(move |app| {
        app.host.change_connector(&name, change)?;
        Ok(all(app))
    })
    .await
}

pub(crate) async fn apply(State(app): State<Arc<App>>) -> Result<Json<Value>, ApiError> {
    app.blocking(|app| Ok(Json(app.host.apply_connectors()?))).await
}
