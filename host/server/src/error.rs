//! [`ApiError`]: each refusal with its status and a JSON body that says what and what to do.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clickmill_broker::BrokerError;
use clickmill_pipeline::blame::BlameError;
use clickmill_pipeline::checkpoint::StoreError;
use clickmill_pipeline::deployment::DeploymentError;
use clickmill_pipeline::deployment::ask::{PromoteError, RequestError};
use clickmill_pipeline::deployment::body::BadBody;
use clickmill_pipeline::deployment::change::ChangeError;
use clickmill_pipeline::deployment::control::DeployError;
use clickmill_pipeline::reprocess::ReprocessError;
use clickmill_pipeline::savepoint::SavepointError;
use clickmill_pipeline::shadow::ShadowError;
use clickmill_pipeline::topics::TopicError;
use clickmill_pipeline::views::ViewError;
use clickmill_pipeline::views::reports::ReportError;
use serde_json::json;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error("this server needs a token: send the header `Authorization: Bearer <token>` with the token of its config")]
    Unauthorized,
    #[error("requests from other sites' pages are refused (origin {0:?})")]
    ForeignOrigin(String),
    #[error("this server answers to 127.0.0.1, [::1] and localhost, not to {0:?}")]
    ForeignHost(String),
    #[error("topic {topic:?} is written by clickmill itself; events go to {allowed:?}")]
    ReadOnlyTopic { topic: String, allowed: &'static str },
    #[error("{0}")]
    NotFound(String),
    #[error("{method} is not for this address; it answers to the methods in the header `Allow`")]
    MethodNotAllowed { method: Method },
    #[error("bodies with Content-Encoding {0:?} are not understood; send it as it is")]
    UnsupportedEncoding(String),
    #[error("the body is longer than {limit_bytes} bytes; send it in parts")]
    TooLarge { limit_bytes: usize },
    #[error("{0}; nothing of this request was stored; try again")]
    Backpressure(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}; ask for the positions of this source and send what is missing")]
    Stale(String),
    #[error("too many requests at once; try again")]
    Overloaded,
    #[error("the request took too long; what it was to store may be stored or may yet be")]
    Timeout,
    #[error("{0}")]
    NoRoom(String),
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::ForeignOrigin(_) | Self::ReadOnlyTopic { .. } => StatusCode::FORBIDDEN,
            Self::ForeignHost(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Backpressure(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Stale(_) | Self::Overloaded | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoRoom(_) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A stable word for programs.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::ForeignOrigin(_) => "foreign_origin",
            Self::ForeignHost(_) => "foreign_host",
            Self::ReadOnlyTopic { .. } => "read_only_topic",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::UnsupportedEncoding(_) => "unsupported_encoding",
            Self::TooLarge { .. } => "too_large",
            Self::Refused(_) => "refused",
            Self::Conflict(_) => "conflict",
            Self::Backpressure(_) => "backpressure",
            Self::Stale(_) => "stale",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::NoRoom(_) => "no_room",
            Self::Internal(_) => "internal",
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(code = self.code(), "{self}");
        }
        let body = json!({"error": {"code": self.code(), "message": self.to_string()}});
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self {
            Self::Backpressure(_) | Self::Overloaded | Self::NoRoom(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

impl From<QueryRejection> for ApiError {
    /// In the words of what is wrong, without those of what was being done.
    fn from(rejection: QueryRejection) -> Self {
        let text = rejection.body_text();
        Self::BadRequest(text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text).to_owned())
    }
}

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        let text = error.to_string();
        match error {
            BrokerError::UnknownTopic { .. } | BrokerError::UnknownPartition { .. } => Self::NotFound(text),
            BrokerError::OffsetOutOfRange { .. }
            | BrokerError::BadBatch { .. }
            | BrokerError::BadTopic { .. }
            | BrokerError::PartitionsDiffer { .. } => Self::BadRequest(text),
            BrokerError::Busy { .. } => Self::Backpressure(text),
            BrokerError::DiskFull { .. } => Self::NoRoom(text),
            _ => Self::Internal(text),
        }
    }
}

impl From<SavepointError> for ApiError {
    fn from(error: SavepointError) -> Self {
        match error {
            SavepointError::Broker(e) => e.into(),
            e if e.is_a_mistake() => Self::BadRequest(e.to_string()),
            e @ (SavepointError::Exists(_) | SavepointError::Nothing { .. } | SavepointError::NoCommit { .. }) => {
                Self::Conflict(e.to_string())
            }
            e => Self::Internal(e.to_string()),
        }
    }
}

impl From<TopicError> for ApiError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Broker(e) => e.into(),
            e @ TopicError::Exists(_) => Self::Conflict(e.to_string()),
            e @ TopicError::Own { .. } => Self::BadRequest(e.to_string()),
        }
    }
}

impl From<ViewError> for ApiError {
    fn from(error: ViewError) -> Self {
        match error {
            ViewError::Broker(e) => e.into(),
            e @ ViewError::TooLarge { .. } => Self::BadRequest(e.to_string()),
            e @ (ViewError::Record { .. } | ViewError::Store(_)) => Self::Internal(e.to_string()),
        }
    }
}

impl From<ReportError> for ApiError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::View(e) => e.into(),
            e @ ReportError::TooLarge => Self::BadRequest(e.to_string()),
        }
    }
}

impl From<BadBody> for ApiError {
    fn from(error: BadBody) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Body(e) => e.into(),
            RequestError::Module(e) => e.into(),
            RequestError::Store(e) => e.into(),
            RequestError::StoredManifest { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl From<DeploymentError> for ApiError {
    fn from(error: DeploymentError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let text = error.to_string();
        match error {
            DeployError::Busy
            | DeployError::Reprocessing
            | DeployError::Staged { .. }
            | DeployError::NotStaged { .. }
            | DeployError::Nothing => Self::Conflict(text),
            DeployError::Change(ChangeError::NoneToRemove { .. } | ChangeError::Unknown { .. }) => Self::NotFound(text),
            DeployError::NoPartition { .. } | DeployError::LongMessage | DeployError::Change(_) => {
                Self::BadRequest(text)
            }
            DeployError::Refused(_)
            | DeployError::State { .. }
            | DeployError::Canary { .. }
            | DeployError::HiddenState { .. } => Self::Refused(text),
            DeployError::Deployment(_) | DeployError::Store(_) | DeployError::Judge(_) => Self::Internal(text),
        }
    }
}

impl From<ReprocessError> for ApiError {
    fn from(error: ReprocessError) -> Self {
        let text = error.to_string();
        match error {
            ReprocessError::Running
            | ReprocessError::Trimmed { .. }
            | ReprocessError::Reset { .. }
            | ReprocessError::Partitions => Self::Conflict(text),
            ReprocessError::With => Self::BadRequest(text),
            ReprocessError::None => Self::NotFound(text),
            ReprocessError::Request(e) => e.into(),
            ReprocessError::Deploy(e) => e.into(),
            ReprocessError::View(e) => e.into(),
            ReprocessError::NotCommitted
            | ReprocessError::Start(_)
            | ReprocessError::Broker(_)
            | ReprocessError::Store(_)
            | ReprocessError::Io(_) => Self::Internal(text),
        }
    }
}

impl From<ShadowError> for ApiError {
    fn from(error: ShadowError) -> Self {
        let text = error.to_string();
        match error {
            ShadowError::Running { .. } => Self::Conflict(text),
            ShadowError::None => Self::NotFound(text),
            ShadowError::Change(_) => Self::BadRequest(text),
            ShadowError::Refused(_) => Self::Refused(text),
            ShadowError::Judge(_) | ShadowError::Thread(_) => Self::Internal(text),
        }
    }
}

impl From<PromoteError> for ApiError {
    fn from(error: PromoteError) -> Self {
        match error {
            PromoteError::Condition(_) => Self::Refused(error.to_string()),
            PromoteError::Shadow(e) => e.into(),
            PromoteError::Deploy(e) => e.into(),
        }
    }
}

impl From<BlameError> for ApiError {
    fn from(error: BlameError) -> Self {
        let text = error.to_string();
        match error {
            BlameError::NoPartition { .. } | BlameError::NoOffset { .. } => Self::NotFound(text),
            BlameError::View(e) => e.into(),
            BlameError::Chain(_) | BlameError::Judge(_) => Self::Internal(text),
        }
    }
}
