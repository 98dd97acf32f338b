//! Reads request bodies within limits: one body's length, and the bytes of all bodies in memory at once.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, header};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Unit of the budget, so that its numbers fit a semaphore.
const UNIT_BYTES: usize = 1_024;

/// Bytes of bodies that may be in memory.
#[derive(Clone, Debug)]
pub(crate) struct BodyBudget {
    units: Arc<Semaphore>,
    all_units: usize,
    max_body_bytes: usize,
}

/// A body, with its share of the budget.
#[derive(Debug)]
pub(crate) struct HeldBody {
    pub(crate) bytes: Bytes,
    _share: OwnedSemaphorePermit,
}

impl BodyBudget {
    pub(crate) fn new(max_body_bytes: usize, max_in_flight_bytes: usize) -> Self {
        let units = max_in_flight_bytes.max(max_body_bytes).div_ceil(UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), all_units: units, max_body_bytes }
    }

    /// Bytes of bodies that are in memory, about.
    pub(crate) fn bytes_in_flight(&self) -> usize {
        self.all_units.saturating_sub(self.units.available_permits()) * UNIT_BYTES
    }

    /// Reads the body whole.
    pub(crate) async fn read(&self, request: Request<Body>) -> Result<HeldBody, ApiError> {
        if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(ApiError::UnsupportedEncoding(String::from_utf8_lossy(encoding.as_bytes()).into_owned()));
        }
        let limit_bytes = self.max_body_bytes;
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|n| n > limit_bytes) {
            return Err(ApiError::TooLarge { limit_bytes });
        }
        // A body of unknown length may become as long as the limit.
        let units = announced.unwrap_or(limit_bytes).div_ceil(UNIT_BYTES);
        let share = u32::try_from(units).ok().and_then(|n| Arc::clone(&self.units).try_acquire_many_owned(n).ok());
        let Some(share) = share else {
            return Err(ApiError::Backpressure("too many bytes of requests are in memory".to_owned()));
        };
        let mut body = Limited::new(request.into_body(), limit_bytes);
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| {
                if e.is::<http_body_util::LengthLimitError>() {
                    ApiError::TooLarge { limit_bytes }
                } else {
                    ApiError::BadRequest(format!("the body broke off: {e}"))
                }
            })?;
            if let Some(data) = frame.data_ref() {
                bytes.extend_from_slice(data);
            }
        }
        Ok(HeldBody { bytes: bytes.freeze(), _share: share })
    }
}
