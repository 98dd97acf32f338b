//! Sums up numbers. One that is none is an error.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(aggregate)]
pub fn aggregate(accumulator: RecordData, current: &SmartModuleRecord) -> Result<RecordData> {
    let sum: i64 = if accumulator.is_empty() { 0 } else { std::str::from_utf8(accumulator.as_ref())?.parse()? };
    let number: i64 = std::str::from_utf8(current.value.as_ref())?.trim().parse()?;
    Ok(sum.wrapping_add(number).to_string().into())
}
