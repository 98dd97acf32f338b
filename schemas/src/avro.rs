//! The 5-byte header that tells Avro from JSON, and the schema ids in use.
//!
//! `0, schema id (u32, big-endian)`, as Confluent's registry has it. JSON objects start with `{` or white space.

/// Schema ids of the values that Clickmill writes. The schemas are the `.avsc` files of this folder.
pub mod schema_id {
    /// `ad_event.avsc`
    pub const AD_EVENT: u32 = 1;
    /// `ad_event_enriched.avsc`
    pub const AD_EVENT_ENRICHED: u32 = 2;
    /// `ctr_window.avsc`
    pub const CTR_WINDOW: u32 = 3;
}

pub const HEADER_LEN: usize = 5;

/// The header of a value of this schema.
#[must_use]
pub const fn header(schema_id: u32) -> [u8; HEADER_LEN] {
    let id = schema_id.to_be_bytes();
    [0, id[0], id[1], id[2], id[3]]
}

/// Splits a value into its schema id and its Avro body; `None` where it has no header.
#[must_use]
pub fn split(value: &[u8]) -> Option<(u32, &[u8])> {
    let (head, body) = value.split_first_chunk::<HEADER_LEN>()?;
    (head[0] == 0).then(|| (u32::from_be_bytes([head[1], head[2], head[3], head[4]]), body))
}
