//! Writes down all that a record says of itself: offset, timestamp, key, length.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let (offset, timestamp, key) =
        (record.offset(), record.timestamp(), record.key.as_ref().map(AsRef::<[u8]>::as_ref));
    let text = format!("{offset} {timestamp} {key:?} {}", record.value.len());
    Ok((record.key.clone(), text.into()))
}
