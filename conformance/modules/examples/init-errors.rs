//! Does in `init` what it is told to.

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{eyre, smartmodule, Result, SmartModuleRecord};

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    match params.get("do").map(String::as_str) {
        None => Ok(()),
        Some("panic") => panic!("as it was told"),
        Some("chain") => Err(eyre!("the cause").wrap_err("the effect")),
        Some(other) => Err(eyre!("{other}")),
    }
}

#[smartmodule(filter)]
pub fn filter(_record: &SmartModuleRecord) -> Result<bool> {
    Ok(true)
}
