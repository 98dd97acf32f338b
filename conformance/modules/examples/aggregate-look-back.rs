//! Collects the newest values that it has seen, with the longest of those that it looked back on in front.

use std::sync::RwLock;

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

static LONGEST: RwLock<String> = RwLock::new(String::new());

#[smartmodule(aggregate)]
pub fn aggregate(accumulator: RecordData, current: &SmartModuleRecord) -> Result<RecordData> {
    let mut text =
        format!("{}|{}{}", LONGEST.read().unwrap(), String::from_utf8_lossy(accumulator.as_ref()), current.value);
    let cut = text.ceil_char_boundary(text.len().saturating_sub(40));
    Ok(text.split_off(cut).into())
}

#[smartmodule(look_back)]
pub fn look_back(record: &SmartModuleRecord) -> Result<()> {
    let value = record.value.to_string();
    let mut longest = LONGEST.write().unwrap();
    if value.len() > longest.len() {
        *longest = value;
    }
    Ok(())
}
