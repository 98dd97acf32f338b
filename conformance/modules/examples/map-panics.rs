//! Panics on a value `panic`.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let value: &[u8] = record.value.as_ref();
    assert_ne!(value, b"panic", "at offset {}", record.offset());
    Ok((record.key.clone(), record.value.clone()))
}
