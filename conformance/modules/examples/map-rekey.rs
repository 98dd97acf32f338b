//! The first half of a value becomes the key, the second half the value; without two bytes there is no key.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let value: &[u8] = record.value.as_ref();
    let (key, value) = value.split_at(value.len() / 2);
    Ok((Some(key).filter(|key| !key.is_empty()).map(Into::into), value.into()))
}
