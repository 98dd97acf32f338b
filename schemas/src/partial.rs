//! Window partials: what one partition has counted in one dimension of one window, as of an offset.
//!
//! Topic key: `run|partition|generation|size_ms|start_ms|dimension` (text). Value: the 5-byte Avro header, then
//! `ctr_window.avsc`: epoch, as_of_offset, lower_bound, entries. The guest writes the key from `size_ms` on and the
//! value from `lower_bound` on; the host puts its stamps before both, so that nothing is decoded on the way.
//! Partials of a window add up over partitions and generations.

use crate::avro::{self, schema_id};
use crate::ids::{Epoch, Generation, Offset, PartitionId, RunId};
use crate::record::{put_varint, take_varint};

/// Key of the bucket that takes what is beyond the limit on keys of a pane.
pub const OVERFLOW_KEY: &str = "__overflow__";

/// Sums of one key in one window; money in micros of the currency unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub impressions: i64,
    pub clicks: i64,
    pub conversions: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

impl Metrics {
    /// Adds. What does not fit wraps, as in the guests: sums that a module claims are no reason to end a reader, and
    /// wrapping sums are the same in any order.
    pub fn add(&mut self, other: &Self) {
        self.impressions = self.impressions.wrapping_add(other.impressions);
        self.clicks = self.clicks.wrapping_add(other.clicks);
        self.conversions = self.conversions.wrapping_add(other.conversions);
        self.cost_micros = self.cost_micros.wrapping_add(other.cost_micros);
        self.revenue_micros = self.revenue_micros.wrapping_add(other.revenue_micros);
    }
}

/// A window's dimension: what the guest's part of a partial's key says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowKey {
    pub size_ms: i64,
    /// Start of the window, epoch milliseconds, a multiple of `size_ms`.
    pub start_ms: i64,
    /// `total`, `site_category`, …
    pub dimension: String,
}

impl WindowKey {
    /// Exclusive end of the window, epoch milliseconds.
    #[must_use]
    pub const fn end_ms(&self) -> i64 {
        self.start_ms.saturating_add(self.size_ms)
    }
}

/// Whose partial it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    pub run: RunId,
    pub partition: PartitionId,
    pub generation: Generation,
}

/// Version of a partial; a sink writes it only where it is greater than what is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    pub epoch: Epoch,
    /// Exclusive end of the input prefix that is counted.
    pub as_of: Offset,
}

/// One partial, read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    pub owner: Owner,
    pub window: WindowKey,
    pub version: Version,
    /// Some of a key's events may be in the overflow bucket.
    pub lower_bound: bool,
    pub entries: Vec<(String, Metrics)>,
}

/// An empty key and five sums, a byte each.
const LEAST_ENTRY_BYTES: usize = 6;

/// A key or value that is not a partial.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a window partial: {0}")]
pub struct NotAPartial(&'static str);

/// Appends the guest's part of the key.
pub fn put_guest_key(out: &mut Vec<u8>, size_ms: i64, start_ms: i64, dimension: &str) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{size_ms}|{start_ms}|{dimension}");
}

/// Appends the head of the guest's part of the value; `entries` calls of [`put_entry`] and one [`put_end`] follow.
pub fn put_guest_head(out: &mut Vec<u8>, lower_bound: bool, entries: usize) {
    out.push(u8::from(lower_bound));
    if entries > 0 {
        put_varint(out, entries as i64);
    }
}

/// Appends one entry.
pub fn put_entry(out: &mut Vec<u8>, key: &[u8], m: &Metrics) {
    put_varint(out, key.len() as i64);
    out.extend_from_slice(key);
    for v in [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros] {
        put_varint(out, v);
    }
}

/// Appends the end of the entries.
pub fn put_end(out: &mut Vec<u8>) {
    out.push(0);
}

/// The host's part of the key, with the separator.
#[must_use]
pub fn key_prefix(owner: &Owner) -> String {
    format!("{}|{}|{}|", owner.run, owner.partition, owner.generation)
}

/// Appends the host's part of the value.
pub fn put_stamps(out: &mut Vec<u8>, version: &Version) {
    out.extend_from_slice(&avro::header(schema_id::CTR_WINDOW));
    put_varint(out, version.epoch.0 as i64);
    put_varint(out, version.as_of.0 as i64);
}

/// A partial without its entries: enough to fence, filter and version it, at a fraction of the cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub owner: Owner,
    pub window: WindowKey,
    pub version: Version,
    /// Some of a key's events may be in the overflow bucket.
    pub lower_bound: bool,
    /// Where the entries begin in the value; [`take_entries`] reads from there.
    pub entries_at: usize,
}

impl Head {
    /// Reads the key and the stamps of a record of `ctr_windows`; the entries stay as they are, unchecked.
    ///
    /// # Errors
    /// [`NotAPartial`] where the record is of another kind or malformed so far; [`is_partial`] tells the two apart.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, NotAPartial> {
        let (owner, window) = decode_key(key)?;
        let body = match avro::split(value) {
            Some((schema_id::CTR_WINDOW, body)) => body,
            _ => return Err(NotAPartial("another schema id")),
        };
        let mut at = 0;
        let mut next = || take_varint(body, &mut at).ok_or(NotAPartial("value cut short"));
        let unsigned = |v: i64| u64::try_from(v).map_err(|_| NotAPartial("negative stamp"));
        let version = Version { epoch: Epoch(unsigned(next()?)?), as_of: Offset(unsigned(next()?)?) };
        let lower_bound = match body.get(at) {
            Some(b @ (0 | 1)) => *b == 1,
            _ => return Err(BAD_FLAG),
        };
        Ok(Self { owner, window, version, lower_bound, entries_at: avro::HEADER_LEN + at + 1 })
    }
}

/// Reads the entries of a partial: the value from [`Head::entries_at`] on, to its very end.
///
/// # Errors
/// [`NotAPartial`] where they are malformed.
pub fn take_entries(bytes: &[u8]) -> Result<Vec<(String, Metrics)>, NotAPartial> {
    let mut walk = Entries { bytes, at: 0, left: 0 };
    let mut entries = Vec::new();
    while let Some((key, metrics)) = walk.next()? {
        if entries.len() == entries.capacity() {
            // Readers hold these by the thousand; the count is only believed as far as there are bytes for it.
            entries.reserve_exact(1 + walk.left.min((bytes.len() - walk.at) / LEAST_ENTRY_BYTES));
        }
        entries.push((key.to_owned(), metrics));
    }
    Ok(entries)
}

/// Hands each entry of a partial to `visit`, without a copy of its key: the value from [`Head::entries_at`] on.
///
/// # Errors
/// [`NotAPartial`] where they are malformed; those before have been visited.
pub fn visit_entries<'a>(bytes: &'a [u8], mut visit: impl FnMut(&'a str, Metrics)) -> Result<(), NotAPartial> {
    let mut walk = Entries { bytes, at: 0, left: 0 };
    while let Some((key, metrics)) = walk.next()? {
        visit(key, metrics);
    }
    Ok(())
}

/// Checks the guest's part of a key and of a value: with the host's stamps before them they are a partial.
///
/// # Errors
/// [`NotAPartial`] where they would be none.
pub fn check_guest_part(key: &[u8], value: &[u8]) -> Result<(), NotAPartial> {
    let key = std::str::from_utf8(key).map_err(|_| BAD_KEY)?;
    decode_window(&mut key.splitn(3, '|'))?;
    let (flag, entries) = value.split_first().ok_or(BAD_FLAG)?;
    if *flag > 1 {
        return Err(BAD_FLAG);
    }
    let mut walk = Entries { bytes: entries, at: 0, left: 0 };
    while walk.next()?.is_some() {}
    Ok(())
}

impl Partial {
    /// Reads a record of `ctr_windows`.
    ///
    /// # Errors
    /// [`NotAPartial`] where the record is of another kind or malformed; [`is_partial`] tells the two apart.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Self, NotAPartial> {
        let Head { owner, window, version, lower_bound, entries_at } = Head::decode(key, value)?;
        let entries = take_entries(value.get(entries_at..).unwrap_or_default())?;
        Ok(Self { owner, window, version, lower_bound, entries })
    }
}

/// Whether a value of `ctr_windows` is a partial (the rest is JSON).
#[must_use]
pub fn is_partial(value: &[u8]) -> bool {
    value.first() == Some(&0)
}

/// Walks entries, block after block.
struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Entries that the block says are still to come.
    left: usize,
}

impl<'a> Entries<'a> {
    /// The next one; `None` at the end, which is the end of the bytes too.
    fn next(&mut self) -> Result<Option<(&'a str, Metrics)>, NotAPartial> {
        if self.left == 0 {
            let count = take_varint(self.bytes, &mut self.at).ok_or(NotAPartial("value cut short"))?;
            self.left = usize::try_from(count).map_err(|_| NotAPartial("negative count"))?;
            if self.left == 0 {
                let whole = self.at == self.bytes.len();
                return if whole { Ok(None) } else { Err(NotAPartial("bytes left over")) };
            }
        }
        self.left -= 1;
        take_entry(self.bytes, &mut self.at).map(Some)
    }
}

fn take_entry<'a>(body: &'a [u8], at: &mut usize) -> Result<(&'a str, Metrics), NotAPartial> {
    const SHORT: NotAPartial = NotAPartial("entry cut short");
    let len = take_varint(body, at).and_then(|l| usize::try_from(l).ok()).ok_or(SHORT)?;
    let end = at.checked_add(len).ok_or(SHORT)?;
    let key = body.get(*at..end).ok_or(SHORT)?;
    *at = end;
    let key = std::str::from_utf8(key).map_err(|_| NotAPartial("key is not UTF-8"))?;
    let mut next = || take_varint(body, at).ok_or(SHORT);
    let metrics = Metrics {
        impressions: next()?,
        clicks: next()?,
        conversions: next()?,
        cost_micros: next()?,
        revenue_micros: next()?,
    };
    Ok((key, metrics))
}

const BAD_KEY: NotAPartial = NotAPartial("bad key");
const BAD_FLAG: NotAPartial = NotAPartial("bad flag");

fn decode_key(key: &[u8]) -> Result<(Owner, WindowKey), NotAPartial> {
    let text = std::str::from_utf8(key).map_err(|_| BAD_KEY)?;
    let mut parts = text.splitn(6, '|');
    let mut next = || parts.next().ok_or(BAD_KEY);
    let owner = Owner {
        run: next()?.parse().map_err(|_| BAD_KEY)?,
        partition: next()?.parse().map_err(|_| BAD_KEY)?,
        generation: next()?.parse().map_err(|_| BAD_KEY)?,
    };
    Ok((owner, decode_window(&mut parts)?))
}

/// The guest's part of a key.
fn decode_window<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Result<WindowKey, NotAPartial> {
    let mut next = || parts.next().ok_or(BAD_KEY);
    Ok(WindowKey {
        size_ms: next()?.parse().map_err(|_| BAD_KEY)?,
        start_ms: next()?.parse().map_err(|_| BAD_KEY)?,
        dimension: next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_reads_back_and_no_cut_of_it_does() {
        let owner = Owner { run: RunId([3; 16]), partition: PartitionId(2), generation: Generation(1) };
        let version = Version { epoch: Epoch(4), as_of: Offset(1_000) };
        let m = Metrics { impressions: 10, clicks: 2, conversions: 1, cost_micros: 12_345, revenue_micros: 0 };
        let mut key = key_prefix(&owner).into_bytes();
        put_guest_key(&mut key, 60_000, 1_413_849_600_000, "site_category");
        let mut value = Vec::new();
        put_stamps(&mut value, &version);
        put_guest_head(&mut value, true, 2);
        put_entry(&mut value, b"a|b", &m);
        put_entry(&mut value, b"", &m);
        put_end(&mut value);
        let partial = Partial::decode(&key, &value).unwrap();
        assert_eq!(partial.owner, owner);
        assert_eq!(partial.version, version);
        assert_eq!(partial.window.end_ms(), 1_413_849_660_000);
        assert!(partial.lower_bound && partial.entries[0] == ("a|b".to_owned(), m));
        let head = Head::decode(&key, &value).unwrap();
        assert_eq!((head.owner, &head.window, head.version), (owner, &partial.window, version));
        assert_eq!(take_entries(&value[head.entries_at..]).unwrap(), partial.entries);
        let mut visited = Vec::new();
        visit_entries(&value[head.entries_at..], |key, m| visited.push((key.to_owned(), m))).unwrap();
        assert_eq!(visited, partial.entries);
        for cut in 0..value.len() {
            assert!(Partial::decode(&key, &value[..cut]).is_err());
        }
    }

    #[test]
    fn an_avro_library_reads_a_partial_by_its_schema() {
        use apache_avro::types::Value as Avro;
        let schema = apache_avro::Schema::parse_str(include_str!("../ctr_window.avsc")).unwrap();
        let m =
            Metrics { impressions: 300, clicks: -2, conversions: 1, cost_micros: i64::MAX, revenue_micros: i64::MIN };
        for keys in [&[][..], &["", "é|,\""]] {
            let mut value = Vec::new();
            put_stamps(&mut value, &Version { epoch: Epoch(4), as_of: Offset(1_000) });
            put_guest_head(&mut value, true, keys.len());
            keys.iter().for_each(|key| put_entry(&mut value, key.as_bytes(), &m));
            put_end(&mut value);
            let mut body = &value[avro::HEADER_LEN..];
            let found = apache_avro::from_avro_datum(&schema, &mut body, None).unwrap();
            assert!(body.is_empty());
            let sums = [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros];
            let names = ["impressions", "clicks", "conversions", "cost_micros", "revenue_micros"];
            let entry = |key: &&str| {
                let sums = names.into_iter().zip(sums).map(|(name, sum)| (name.to_owned(), Avro::Long(sum)));
                Avro::Record([("key".to_owned(), Avro::String((*key).to_owned()))].into_iter().chain(sums).collect())
            };
            let expected = [
                ("epoch", Avro::Long(4)),
                ("as_of_offset", Avro::Long(1_000)),
                ("lower_bound", Avro::Boolean(true)),
                ("entries", Avro::Array(keys.iter().map(entry).collect())),
            ];
            assert_eq!(found, Avro::Record(expected.map(|(name, value)| (name.to_owned(), value)).into()));
        }
    }

    #[test]
    fn sums_beyond_what_fits_wrap_in_any_order_and_end_no_reader() {
        let claims = [i64::MAX, 5, i64::MAX, i64::MIN];
        let sum = |values: &mut dyn Iterator<Item = i64>| {
            let mut sum = Metrics::default();
            values.for_each(|v| {
                sum.add(&Metrics { impressions: v, clicks: v, conversions: v, cost_micros: v, revenue_micros: v });
            });
            sum
        };
        assert_eq!(sum(&mut claims.into_iter()), sum(&mut claims.into_iter().rev()));
    }

    #[test]
    fn what_is_no_partial_behind_the_stamps_is_found_before_them() {
        let m = Metrics { impressions: 1, ..Metrics::default() };
        let mut value = Vec::new();
        put_guest_head(&mut value, false, 1);
        put_entry(&mut value, b"key", &m);
        put_end(&mut value);
        check_guest_part(b"60000|0|a|b", &value).unwrap();
        for cut in 0..value.len() {
            check_guest_part(b"60000|0|total", &value[..cut]).unwrap_err();
        }
        for key in [&b""[..], b"60000|0", b"60000||total", b"|0|total", b"60000|0|\xff"] {
            check_guest_part(key, &value).unwrap_err();
        }
        value.push(0);
        check_guest_part(b"60000|0|total", &value).unwrap_err();
        value[0] = 2;
        check_guest_part(b"60000|0|total", &value).unwrap_err();
    }
}
