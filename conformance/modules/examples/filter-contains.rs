//! Passes values on that hold a given text. One that is not UTF-8 is an error.

use std::sync::OnceLock;

use fluvio_smartmodule::dataplane::smartmodule::{SmartModuleExtraParams, SmartModuleInitError};
use fluvio_smartmodule::{eyre, smartmodule, Result, SmartModuleRecord};

static WANTED: OnceLock<String> = OnceLock::new();

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    let wanted = params.get("wanted").ok_or_else(|| SmartModuleInitError::MissingParam("wanted".into()))?;
    WANTED.set(wanted.clone()).map_err(|was| eyre!("it was {was}"))
}

#[smartmodule(filter)]
pub fn filter(record: &SmartModuleRecord) -> Result<bool> {
    let text = std::str::from_utf8(record.value.as_ref())?;
    Ok(text.contains(WANTED.get().map_or("", String::as_str)))
}
