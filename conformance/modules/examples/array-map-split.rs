//! A record for each word: none for an empty value, several with the word's place as a key where there was a key. A word
//! `fail` is an error.

use fluvio_smartmodule::{eyre, smartmodule, RecordData, Result, SmartModuleRecord};

#[smartmodule(array_map)]
pub fn array_map(record: &SmartModuleRecord) -> Result<Vec<(Option<RecordData>, RecordData)>> {
    let text = String::from_utf8_lossy(record.value.as_ref()).into_owned();
    let mut out = Vec::new();
    for (place, word) in text.split_ascii_whitespace().enumerate() {
        if word == "fail" {
            return Err(eyre!("word {place} is {word:?}"));
        }
        let key = record.key.as_ref().map(|key| format!("{key}/{place}").into());
        out.push((key, word.into()));
    }
    Ok(out)
}
