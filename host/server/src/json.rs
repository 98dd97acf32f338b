//! Bodies of JSON.

use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// An object in the bytes of a body.
///
/// # Errors
/// [`ApiError::BadRequest`] where it is none, or another one.
pub(crate) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde would take an array's elements for the fields in order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::BadRequest("the body is an array, and must be an object".to_owned()));
    }
    serde_json::from_slice(bytes).map_err(|e| ApiError::BadRequest(format!("the body: {e}")))
}
