//! Passes numbers on that are greater than all that it has seen or looked back on: the newest of a record's kind. What is
//! no number is an error, also of `look_back`.

use std::sync::Mutex;

use fluvio_smartmodule::dataplane::smartmodule::SmartModuleExtraParams;
use fluvio_smartmodule::{eyre, smartmodule, Result, SmartModuleRecord};

static GREATEST: Mutex<Option<i64>> = Mutex::new(None);

#[smartmodule(init)]
fn init(params: SmartModuleExtraParams) -> Result<()> {
    if params.get("refuse_lookback").is_some() {
        return Err(eyre!("it is to look back on {:?}", params.lookback()));
    }
    Ok(())
}

#[smartmodule(filter)]
pub fn filter(record: &SmartModuleRecord) -> Result<bool> {
    see(record)
}

#[smartmodule(look_back)]
pub fn look_back(record: &SmartModuleRecord) -> Result<()> {
    see(record).map(drop)
}

fn see(record: &SmartModuleRecord) -> Result<bool> {
    let number: i64 = std::str::from_utf8(record.value.as_ref())?.trim().parse()?;
    let mut greatest = GREATEST.lock().unwrap();
    let is_greater = greatest.is_none_or(|greatest| number > greatest);
    if is_greater {
        *greatest = Some(number);
    }
    Ok(is_greater)
}
