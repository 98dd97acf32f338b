//! Replaces `device_id` and `device_ip` of a JSON event by a salted hash of them: the same device stays the same device,
//! and nobody can say whose it is.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::{SmartModuleExtraParams, SmartModuleInitError};
use fluvio_smartmodule::{eyre, smartmodule, RecordData, Result, SmartModuleRecord};
use serde_json::Value;
use sha2::{Digest, Sha256};

const FIELDS: [&str; 2] = ["device_id", "device_ip"];

static SALT: OnceLock<String> = OnceLock::new();

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let salt = params.get("salt").ok_or_else(|| SmartModuleInitError::MissingParam("salt".to_string()))?;
    SALT.set(salt.clone()).map_err(|_| eyre!("init was called twice"))
}

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let mut event: Value = serde_json::from_slice(record.value.as_ref())?;
    for field in FIELDS {
        if let Some(Value::String(id)) = event.get_mut(field) {
            *id = masked(id);
        }
    }
    Ok((record.key.clone(), serde_json::to_vec(&event)?.into()))
}

/// Eight hexadecimal digits, as the ids of the data set have.
fn masked(id: &str) -> String {
    let salt = SALT.get().map_or("", String::as_str);
    let hash = Sha256::new().chain_update(salt).chain_update(id).finalize();
    hash[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
