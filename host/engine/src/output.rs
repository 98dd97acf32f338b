//! Reads a transform's output: which of its records go on, and which were routed.
//!
//! A module may claim anything; here is decided whether it holds. Pure functions on the bytes of an output:
//! `u32 count, records, u8 0` (or `u8 1, error`).

use std::ops::Range;

use clickmill_schemas::envelope::Route;
use clickmill_schemas::record::{COUNT_LEN, Record, Records, put_record};

use crate::abi;
use crate::guest::Cause;

/// A set of offset deltas of one batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deltas {
    words: Vec<u64>,
}

impl Deltas {
    /// Holds 0, 1, … `count - 1` from now on.
    pub(crate) fn fill(&mut self, count: u32) {
        self.words.clear();
        self.words.resize(count as usize / 64, u64::MAX);
        if !count.is_multiple_of(64) {
            self.words.push((1 << (count % 64)) - 1);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.words.clear();
    }

    #[inline]
    pub(crate) fn contains(&self, delta: i64) -> bool {
        usize::try_from(delta).ok().and_then(|d| Some(self.words.get(d / 64)? >> (d % 64) & 1 == 1)).unwrap_or(false)
    }

    /// Adds a delta; they are small, since a batch has at most `u32::MAX` records.
    #[inline]
    pub(crate) fn insert(&mut self, delta: u32) {
        let word = delta as usize / 64;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (delta % 64);
    }
}

/// The records that may appear in an output, and those of them that go on.
pub(crate) trait Inputs {
    /// The next record of the output has this delta; an error says what is wrong with that.
    fn admit(&mut self, delta: i64) -> Result<(), &'static str>;
    /// The record that was admitted last goes on.
    fn goes_on(&mut self, delta: i64);
}

/// Records of which each has its own delta.
pub(crate) struct Distinct<'a> {
    inputs: &'a Deltas,
    next: &'a mut Deltas,
    least: i64,
}

impl<'a> Distinct<'a> {
    /// Those in `inputs`; what goes on is left in `next`.
    pub(crate) fn new(inputs: &'a Deltas, next: &'a mut Deltas) -> Self {
        next.clear();
        Self { inputs, next, least: 0 }
    }
}

impl Inputs for Distinct<'_> {
    #[inline]
    fn admit(&mut self, delta: i64) -> Result<(), &'static str> {
        if delta < self.least {
            return Err("is repeated or out of order");
        }
        if !self.inputs.contains(delta) {
            return Err("was not in its input");
        }
        self.least = delta + 1;
        Ok(())
    }

    #[inline]
    fn goes_on(&mut self, delta: i64) {
        self.next.insert(delta as u32);
    }
}

/// The part of an output that goes on to the next stage: `count` records in these ranges of its bytes.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub count: u32,
    /// Bytes in all ranges.
    pub bytes: usize,
    pub ranges: Vec<Range<usize>>,
    /// Not empty where the ranges are of these bytes, and not of the output's.
    pub rewritten: Vec<u8>,
}

impl Passed {
    fn clear(&mut self) {
        self.count = 0;
        self.bytes = 0;
        self.ranges.clear();
        self.rewritten.clear();
    }

    /// Writes the records again, those without their keys that have a key like a route.
    #[cold]
    fn rewrite(&mut self, output: &[u8]) -> Result<(), Cause> {
        let count = self.count;
        self.clear();
        self.count = count;
        for record in Records::new(output).map_err(|e| malformed(&e))?.take(count as usize) {
            let mut record = record.map_err(|e| malformed(&e))?;
            record.key = record.key.filter(|key| !Route::is_route(key));
            put_record(&mut self.rewritten, &record);
        }
        self.bytes = self.rewritten.len();
        self.ranges.push(0..self.bytes);
        Ok(())
    }

    fn push(&mut self, range: Range<usize>) {
        self.count += 1;
        self.bytes += range.len();
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }
}

/// Checks the count of an output against what the call answered, and what it was given where it makes none of its own.
pub(crate) fn check_count(output: &[u8], answered: u32, inputs: Option<u32>) -> Result<u32, Cause> {
    // In full: the iterator of the same name would count the records one by one.
    let count = Records::count(&Records::new(output).map_err(|e| malformed(&e))?);
    if count != answered {
        return Err(Cause(format!(
            "malformed output: it holds {count} records by its head and {answered} by the answer"
        )));
    }
    match inputs {
        Some(inputs) if count > inputs => Err(Cause(format!("malformed output: {count} records made of {inputs}"))),
        _ => Ok(count),
    }
}

/// Takes an output as it is, without a look at its records. For one that says that it has no routes.
#[inline]
pub(crate) fn take_whole(output: &[u8], count: u32, passed: &mut Passed) -> Result<(), Cause> {
    passed.clear();
    let end = output.len() - 1;
    if output[end] != 0 || end < COUNT_LEN || (count == 0) != (end == COUNT_LEN) {
        return Err(Cause(format!("malformed output: {count} records in {} bytes", output.len())));
    }
    passed.count = count;
    passed.bytes = end - COUNT_LEN;
    passed.ranges.push(COUNT_LEN..end);
    Ok(())
}

/// A record that an output routes.
pub(crate) struct RoutedRecord<'a> {
    pub delta: i64,
    pub route: Route<'a>,
    pub value: &'a [u8],
}

/// Walks an output up to what stands behind its records; see [`end`].
///
/// Without `routes` the module knows none: a key that looks like a route is a producer's own, so the record goes on, but
/// without this key, which the stages behind would obey.
pub(crate) fn walk(
    output: &[u8],
    count: u32,
    routes: bool,
    inputs: &mut impl Inputs,
    passed: &mut Passed,
    mut routed: impl FnMut(&RoutedRecord<'_>),
) -> Result<usize, Cause> {
    passed.clear();
    let mut records = Records::new(output).map_err(|e| malformed(&e))?;
    let mut forged = false;
    for _ in 0..count {
        let start = records.position();
        // The set says that it has `count` records.
        let Some(record) = records.next() else { break };
        let record = record.map_err(|e| malformed(&e))?;
        let delta = record.offset_delta;
        inputs
            .admit(delta)
            .map_err(|what| Cause(format!("malformed output: the record with offset delta {delta} {what}")))?;
        match record.key {
            Some(key) if routes && Route::is_route(key) => {
                let route = Route::decode(key).ok_or_else(|| {
                    Cause(format!("malformed output: the route of the record with offset delta {delta} cannot be read"))
                })?;
                routed(&RoutedRecord { delta, route, value: record.value });
            }
            key => {
                forged |= key.is_some_and(Route::is_route);
                inputs.goes_on(delta);
                passed.push(start..records.position());
            }
        }
    }
    let at = records.position();
    if forged {
        passed.rewrite(output)?;
    }
    Ok(at)
}

/// Walks the output of one record: nothing in it is routed, and a key that looks like a route is none. Returns where
/// its end begins.
pub(crate) fn each(output: &[u8], count: u32, each: &mut impl FnMut(&Record<'_>)) -> Result<usize, Cause> {
    let mut records = Records::new(output).map_err(|e| malformed(&e))?;
    for _ in 0..count {
        let Some(record) = records.next() else { break };
        let mut record = record.map_err(|e| malformed(&e))?;
        record.key = record.key.filter(|key| !Route::is_route(key));
        each(&record);
    }
    Ok(records.position())
}

/// The offset that an error behind the records of an output is about, where there is one.
pub(crate) fn suspect(end: &[u8]) -> Option<i64> {
    end.strip_prefix(&[1]).and_then(abi::offset_behind_hint)
}

/// Reads what stands behind the records of an output: whether there is an error, and the accumulator where the module
/// has one.
pub(crate) fn end(end: &[u8], accumulates: bool) -> Result<Option<&[u8]>, Cause> {
    match end {
        [0] if !accumulates => Ok(None),
        [0, rest @ ..] if accumulates => match rest.split_first_chunk::<4>() {
            Some((len, accumulator)) if accumulator.len() == u32::from_be_bytes(*len) as usize => Ok(Some(accumulator)),
            _ => Err(Cause("malformed output: its records are not followed by an accumulator".into())),
        },
        [1, error @ ..] => Err(Cause(format!("it reports an error: {}", abi::hint(error)))),
        _ => Err(Cause("malformed output: its records are not followed by one error flag".into())),
    }
}

fn malformed(e: &clickmill_schemas::record::Malformed) -> Cause {
    Cause(format!("malformed output: {e}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn output(records: &[(i64, Option<&[u8]>)], tail: &[u8]) -> Vec<u8> {
        let mut out = (records.len() as u32).to_be_bytes().to_vec();
        for &(offset_delta, key) in records {
            put_record(&mut out, &Record { offset_delta, timestamp_delta_ms: 0, key, value: b"v" });
        }
        out.extend_from_slice(tail);
        out
    }

    fn late() -> Vec<u8> {
        let mut key = Vec::new();
        Route::Late { ts_ms: 1, watermark_ms: 2 }.encode(&mut key);
        key
    }

    /// Walks an output of a batch of 100: deltas that go on, those routed.
    fn walked(bytes: &[u8], routes: bool) -> Result<(Passed, Deltas, Vec<i64>), String> {
        let (mut inputs, mut next, mut passed) = (Deltas::default(), Deltas::default(), Passed::default());
        inputs.fill(100);
        let mut deltas = Vec::new();
        let count = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let mut distinct = Distinct::new(&inputs, &mut next);
        let at = walk(bytes, count, routes, &mut distinct, &mut passed, |r| deltas.push(r.delta)).map_err(|c| c.0)?;
        end(&bytes[at..], false).map_err(|c| c.0)?;
        Ok((passed, next, deltas))
    }

    #[test]
    fn routed_records_are_taken_out_and_the_rest_keeps_its_bytes() {
        let key = late();
        let bytes = output(&[(0, None), (3, Some(&key)), (4, Some(b"user")), (5, None), (99, Some(&key))], &[0]);
        let (passed, next, routed) = walked(&bytes, true).unwrap();
        assert_eq!(routed, [3, 99]);
        assert_eq!((passed.count, passed.ranges.len()), (3, 2));
        assert!(next.contains(0) && next.contains(4) && !next.contains(3) && !next.contains(1));
        let mut rest = 3u32.to_be_bytes().to_vec();
        passed.ranges.iter().for_each(|r| rest.extend_from_slice(&bytes[r.clone()]));
        assert_eq!(rest, output(&[(0, None), (4, Some(b"user")), (5, None)], &[]));
        assert_eq!(passed.bytes + COUNT_LEN, rest.len());
    }

    #[test]
    fn a_module_that_knows_no_routes_does_not_route_and_no_later_one_obeys_the_key() {
        let bytes = output(&[(2, Some(b"user")), (7, Some(&late())), (8, None)], &[0]);
        let (passed, _, routed) = walked(&bytes, false).unwrap();
        assert_eq!((passed.count, routed.len()), (3, 0));
        let expected = output(&[(2, Some(b"user")), (7, None), (8, None)], &[]);
        assert_eq!(passed.rewritten, expected[COUNT_LEN..]);
        assert_eq!(passed.ranges.len(), 1);
        assert_eq!((passed.ranges[0].clone(), passed.bytes), (0..passed.bytes, passed.rewritten.len()));
    }

    #[test]
    fn repeated_swapped_and_invented_records_are_malformed() {
        for (deltas, what) in
            [([4, 4], "repeated"), ([5, 4], "order"), ([0, 100], "not in"), ([-1, 3], "-1"), ([0, i64::MAX], "not in")]
        {
            let error = walked(&output(&deltas.map(|d| (d, None)), &[0]), true).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_route_that_cannot_be_read_is_malformed() {
        let key = late();
        let error = walked(&output(&[(9, Some(&key[..5]))], &[0]), true).unwrap_err();
        assert!(error.contains("offset delta 9"), "{error}");
    }

    #[test]
    fn an_error_that_a_module_reports_is_told_in_its_words() {
        let error = walked(&output(&[(0, None)], b"\x01\0\x04oh nothing"), true).unwrap_err();
        assert_eq!(error, "it reports an error: oh n");
        assert!(walked(&output(&[(0, None)], b""), true).is_err());
        assert!(walked(&output(&[(0, None)], b"\0\0"), true).is_err());
    }

    #[test]
    fn an_accumulator_is_there_in_full_where_a_module_has_one() {
        assert_eq!(end(b"\0\0\0\0\x02ab", true).unwrap(), Some(&b"ab"[..]));
        assert_eq!(end(b"\0\0\0\0\0", true).unwrap(), Some(&b""[..]));
        for bytes in [&b""[..], b"\0", b"\0\0\0\0", b"\0\0\0\0\x02a", b"\0\0\0\0\x02abc", b"\x02\0\0\0\0"] {
            assert!(end(bytes, true).is_err(), "{bytes:?}");
        }
        assert_eq!(end(b"\x01\0\x02no\0\0\0\0", true).unwrap_err().0, "it reports an error: no");
        assert!(end(b"\0\0\0\0\0", false).is_err());
    }

    #[test]
    fn counts_are_checked_three_ways() {
        let bytes = output(&[(0, None), (1, None)], &[0]);
        assert_eq!(check_count(&bytes, 2, Some(2)).unwrap(), 2);
        assert_eq!(check_count(&bytes, 2, None).unwrap(), 2);
        assert!(check_count(&bytes, 1, Some(2)).is_err());
        assert!(check_count(&bytes, 2, Some(1)).is_err());
        assert!(check_count(&[0, 0], 0, Some(2)).is_err());
    }

    #[test]
    fn an_output_taken_whole_has_room_for_its_count() {
        let mut passed = Passed::default();
        take_whole(&output(&[(0, None)], &[0]), 1, &mut passed).unwrap();
        assert_eq!((passed.count, passed.ranges.len()), (1, 1));
        take_whole(&[0, 0, 0, 0, 0], 0, &mut passed).unwrap();
        assert_eq!(passed.bytes, 0);
        for (bytes, count) in
            [(&[0, 0, 0, 1, 0][..], 1), (&[0, 0, 0, 1], 1), (&[0, 0, 0, 0, 1, 0], 0), (&[0, 0, 0, 1, 5, 1], 1)]
        {
            assert!(take_whole(bytes, count, &mut passed).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn deltas_hold_exactly_what_was_put_in() {
        let mut deltas = Deltas::default();
        for count in [0, 1, 63, 64, 65, 600] {
            deltas.fill(count);
            assert!((0..count).all(|d| deltas.contains(d.into())));
            assert!(!deltas.contains(count.into()) && !deltas.contains(-1) && !deltas.contains(i64::MAX));
        }
        deltas.clear();
        deltas.insert(130);
        assert!(deltas.contains(130) && !deltas.contains(129) && !deltas.contains(2));
    }

    proptest! {
        #[test]
        fn no_output_makes_the_walk_panic(bytes in prop::collection::vec(any::<u8>(), 4..200), count in 0u32..5, cut in 0usize..64) {
            let key = late();
            let mut sound = output(&[(0, None), (2, Some(&key)), (7, None)], &[0]);
            let at = cut % sound.len();
            sound[at] ^= bytes[0];
            for mut bytes in [bytes, sound] {
                bytes[..4].copy_from_slice(&count.to_be_bytes());
                if let Ok((passed, _, routed)) = walked(&bytes, true) {
                    prop_assert_eq!(passed.count as usize + routed.len(), count as usize);
                }
            }
        }
    }
}
