//! Calls itself without end on a value `deep`.

use fluvio_smartmodule::{smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(map)]
pub fn map(record: &SmartModuleRecord) -> Result<(Option<RecordData>, RecordData)> {
    let value: &[u8] = record.value.as_ref();
    let depth = if value == b"deep" { deeper(value.len() as u64) } else { 0 };
    Ok((record.key.clone(), format!("{depth}").into()))
}

#[allow(unconditional_recursion)]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    std::hint::black_box(deeper(std::hint::black_box(depth + 1))) + 1
}
