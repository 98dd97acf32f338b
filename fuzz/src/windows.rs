//! Window partials: what a guest hands out, what the host makes of it, what readers sum up.

use clickmill_schemas::merge::{WindowRecord, WindowTable};
use clickmill_schemas::partial::{
    self, Head, Metrics, Owner, Partial, Version, WindowKey, key_prefix, put_end, put_entry, put_guest_head,
    put_guest_key, put_stamps, take_entries,
};
use clickmill_schemas::record::Records;
use clickmill_schemas::{Epoch, Generation, Offset, PartitionId, RunId};

const VERSION: Version = Version { epoch: Epoch(1), as_of: Offset(1_000) };

fn owner(partition: u32) -> Owner {
    Owner { run: RunId([7; 16]), partition: PartitionId(partition), generation: Generation(0) }
}

/// Key and value of a record, as they are and as a guest's part of one: the first line feed stands between them.
pub fn window_partial(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (key, value) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    read(key, value);
    let stamped = stamp(0, key, value);
    assert_eq!(partial::check_guest_part(key, value).is_ok(), read(&stamped.0, &stamped.1));
}

/// Reads a record of `ctr_windows` in every way there is; whether it is a partial.
fn read(key: &[u8], value: &[u8]) -> bool {
    let decoded = Partial::decode(key, value);
    let head = Head::decode(key, value);
    let by_parts = head.as_ref().ok().and_then(|head| take_entries(value.get(head.entries_at..)?).ok());
    assert_eq!(decoded.as_ref().ok().map(|partial| &partial.entries), by_parts.as_ref());
    match WindowRecord::decode(Some(key), value) {
        Ok(WindowRecord::Partial(partial)) => assert_eq!(Ok(partial), decoded),
        Ok(WindowRecord::Output(_)) => assert!(decoded.is_err()),
        Err(_) => assert!(decoded.is_err()),
    }
    let Ok(partial) = decoded else { return false };
    assert_eq!(head.as_ref().map(|head| &head.window), Ok(&partial.window));
    let (key, value) = encode(&partial);
    assert_eq!(Partial::decode(&key, &value), Ok(partial));
    true
}

fn encode(partial: &Partial) -> (Vec<u8>, Vec<u8>) {
    let Partial { owner, window: WindowKey { size_ms, start_ms, dimension }, version, lower_bound, entries } = partial;
    let mut key = key_prefix(owner).into_bytes();
    put_guest_key(&mut key, *size_ms, *start_ms, dimension);
    let mut value = Vec::new();
    put_stamps(&mut value, version);
    put_guest_head(&mut value, *lower_bound, entries.len());
    entries.iter().for_each(|(key, metrics)| put_entry(&mut value, key.as_bytes(), metrics));
    put_end(&mut value);
    (key, value)
}

/// What the host makes of a guest's part.
fn stamp(partition: u32, key: &[u8], value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut stamps = Vec::new();
    put_stamps(&mut stamps, &VERSION);
    ([key_prefix(&owner(partition)).as_bytes(), key].concat(), [&stamps, value].concat())
}

/// Windows that a chain handed out read as partials, and those of several partitions can be summed.
pub(crate) fn assert_partials(emitted: &[u8]) -> WindowTable {
    let mut table = WindowTable::default();
    for partition in 0..3 {
        for record in Records::new(emitted).expect("what is handed out is a record set") {
            let record = record.expect("what is handed out is a record set");
            let (key, value) = stamp(partition, record.key.unwrap_or_default(), record.value);
            table.apply(Partial::decode(&key, &value).expect("what is handed out is a partial"));
        }
    }
    let mut sum = Metrics::default();
    for (window, merged) in table.iter() {
        assert!(window.end_ms() >= window.start_ms);
        merged.sums().values().for_each(|metrics| sum.add(metrics));
    }
    table
}
