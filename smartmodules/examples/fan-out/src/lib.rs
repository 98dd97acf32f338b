//! Takes apart records that hold several events: a JSON array becomes a record for each of its elements, anything else
//! stays what it is. For producers that send what they have collected in one record.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};
use serde_json::value::RawValue;

#[smartmodule(array_map)]
pub fn array_map(record: &SmartModuleRecord) -> Result<Vec<(Option<RecordData>, RecordData)>> {
    let value: &[u8] = record.value.as_ref();
    if value.trim_ascii_start().first() != Some(&b'[') {
        return Ok(vec![(record.key.clone(), record.value.clone())]);
    }
    // The elements keep their bytes, whatever they are.
    let events: Vec<&RawValue> = serde_json::from_slice(value)?;
    Ok(events.into_iter().map(|event| (record.key.clone(), event.get().into())).collect())
}
