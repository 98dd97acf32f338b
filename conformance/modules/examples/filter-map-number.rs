//! Doubles even numbers and drops odd ones; takes keys away from those that end in 4. What is no number is an error.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(filter_map)]
pub fn filter_map(record: &SmartModuleRecord) -> Result<Option<(Option<RecordData>, RecordData)>> {
    let number: i64 = std::str::from_utf8(record.value.as_ref())?.trim().parse()?;
    if number % 2 != 0 {
        return Ok(None);
    }
    let key = record.key.clone().filter(|_| number % 10 != 4);
    Ok(Some((key, number.wrapping_mul(2).to_string().into())))
}
