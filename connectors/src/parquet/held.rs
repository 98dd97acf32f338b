//! What is in memory of a range of offsets that is not whole yet: the newest version of each partial.

use std::collections::HashMap;

use clickmill_schemas::Offset;
use clickmill_schemas::partial::{Owner, Version, WindowKey, take_entries};

use crate::letters::UNREADABLE;
use crate::sink::Written;
use crate::windows::WindowBatch;

/// One partial; its entries stay encoded, and were looked at.
#[derive(Debug)]
pub struct Held {
    /// Where it lies.
    pub offset: Offset,
    pub version: Version,
    pub lower_bound: bool,
    pub entries: Box<[u8]>,
}

/// The partials of a range.
pub type Partials = HashMap<(Owner, WindowKey), Held>;

/// Puts the partials of a batch over those that are held.
pub fn take(held: &mut Partials, batch: WindowBatch<'_>, written: &mut Written) {
    for (key, newest) in batch.partials {
        if held.get(&key).is_some_and(|before| before.version >= newest.version) {
            continue;
        }
        if let Err(e) = take_entries(newest.entries) {
            written.refuse(newest.offset, UNREADABLE, e.to_string());
            continue;
        }
        let entries = newest.entries.into();
        held.insert(
            key,
            Held { offset: newest.offset, version: newest.version, lower_bound: newest.lower_bound, entries },
        );
    }
}
