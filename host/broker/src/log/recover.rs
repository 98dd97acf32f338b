//! Opens a partition's folder: which segments belong to it, and where its last one ends.
//!
//! A crash may leave a torn tail, which is cut, since nobody was told of it. A bad frame below what is proven to have
//! been durable is a loss, which is reported and never cut. The proof is the mark or a later frame, see [`judge`].
//! Only the last segment is read, so opening takes the time of one segment; the others are checked when fetched.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use clickmill_schemas::Offset;

use super::disk;
use super::frame::{self, FrameFault};
use super::index::SparseIndex;
use super::mark::{Mark, MarkFile};
use super::place::Place;
use super::scan::{Scanner, Step, later_proof};
use super::segment::{self, HeaderFault, SegmentHeader};
use super::view::{Active, Segment};
use crate::error::BrokerError;

/// A partition as found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub sealed: Vec<Segment>,
    pub active: Active,
    pub end: Offset,
    pub floor: Option<Offset>,
    /// Bytes of torn tail that were cut (or, read-only, are left out).
    pub cut_bytes: u64,
}

/// What to do about the end of the last segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// It ends with a whole frame.
    Whole,
    /// What is behind the last whole frame was never durable: cut it.
    Cut,
    /// Something durable is gone.
    Lost(String),
}

/// Judges the end of the last segment: whole frames reach up to `end`; `torn` if something else follows; the mark
/// says that all below `marked` was durable, a frame further on that all below `later` was.
pub(super) fn judge(end: Offset, torn: Option<FrameFault>, marked: Option<Offset>, later: Option<Offset>) -> Tail {
    let fault = torn.map_or_else(|| "the file ends here".to_owned(), |fault| fault.to_string());
    match (marked.filter(|m| *m > end), later.filter(|l| *l > end)) {
        (Some(marked), _) => Tail::Lost(format!("{fault}, but everything below offset {marked} was synced")),
        (None, Some(later)) => {
            Tail::Lost(format!("{fault}, but a later frame shows that everything below offset {later} was synced"))
        }
        (None, None) if torn.is_some() => Tail::Cut,
        (None, None) => Tail::Whole,
    }
}

/// Reads a partition's folder. With `writable`, left-overs are removed and a torn tail is cut.
pub(super) fn recover(place: &Place, writable: bool) -> Result<Recovered, BrokerError> {
    let mark = MarkFile::peek(&place.dir, place.seed)?;
    let mut headers = Vec::new();
    for base in list(place, writable)? {
        headers.push(read_header(place, base)?);
    }
    let left_overs = left_overs(&mut headers, mark.map_or(Offset(0), |m| m.start));
    if writable && !left_overs.is_empty() {
        disk::remove(&place.dir, left_overs.into_iter().map(|base| place.segment(base)))?;
    }
    check_chain(place, &headers, mark)?;
    let Some(last) = headers.pop() else {
        return Err(place.corrupt(mark.map_or(Offset(0), |m| m.start), &place.dir, 0, "there is no segment file"));
    };
    let (active, end, cut_bytes) = open_last(place, &last, mark, writable)?;
    let mut sealed = Vec::new();
    for (i, header) in headers.iter().enumerate() {
        let next = headers.get(i + 1).unwrap_or(&last);
        let path = place.segment(header.base);
        let len = fs::metadata(&path).map_err(|e| BrokerError::io("inspect", &path, e))?.len();
        sealed.push(Segment {
            id: i as u64 + 1,
            header: *header,
            end: next.base,
            len,
            sealed_at_ms: next.created_at_ms,
            index: None,
        });
    }
    Ok(Recovered { sealed, active, end, floor: mark.and_then(|m| m.floor), cut_bytes })
}

/// Bases of the segment files, in order. Unfinished files go.
fn list(place: &Place, writable: bool) -> Result<Vec<Offset>, BrokerError> {
    let fail = |e| BrokerError::io("list", &place.dir, e);
    let mut bases = Vec::new();
    for entry in fs::read_dir(&place.dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if let Some(base) = path.file_name().and_then(|n| n.to_str()).and_then(segment::base_of) {
            bases.push(base);
        } else if writable && path.extension().is_some_and(|e| e == disk::UNFINISHED) {
            disk::remove(&place.dir, [path])?;
        }
    }
    bases.sort_unstable();
    Ok(bases)
}

fn read_header(place: &Place, base: Offset) -> Result<SegmentHeader, BrokerError> {
    let path = place.segment(base);
    let file = File::open(&path).map_err(|e| BrokerError::io("open", &path, e))?;
    match SegmentHeader::read(&file, place.seed) {
        Ok(header) if header.base == base => Ok(header),
        Ok(header) => {
            let what = format!("this is the segment of offset {} under another name", header.base);
            Err(place.corrupt(base, &path, 0, &what))
        }
        Err(HeaderFault::Bad(what)) => Err(place.corrupt(base, &path, 0, what)),
        Err(HeaderFault::Newer(found)) => Err(BrokerError::NewerFormat { file: path, found, known: segment::VERSION }),
        Err(HeaderFault::Io(e)) => Err(BrokerError::io("read", &path, e)),
    }
}

/// Takes out the segments that a crash left behind: below the start (retention was at work) and within what a
/// compacted segment reaches over (compaction was).
fn left_overs(headers: &mut Vec<SegmentHeader>, start: Offset) -> Vec<Offset> {
    let mut gone = Vec::new();
    while let [first, second, ..] = headers.as_slice()
        && second.base <= start
    {
        gone.push(first.base);
        headers.remove(0);
    }
    let mut reached = Offset(0);
    headers.retain(|header| {
        let taken_in = header.base < reached;
        if taken_in {
            gone.push(header.base);
        } else if let Some(reaches) = header.reaches {
            reached = reaches;
        }
        !taken_in
    });
    gone
}

/// No segment is missing.
fn check_chain(place: &Place, headers: &[SegmentHeader], mark: Option<Mark>) -> Result<(), BrokerError> {
    if let (Some(first), Some(mark)) = (headers.first(), mark)
        && first.base > mark.start
    {
        let what = format!("this segment file is missing; the next one begins at offset {}", first.base);
        return Err(place.corrupt(mark.start, &place.segment(mark.start), 0, &what));
    }
    for pair in headers.windows(2) {
        let follows = match pair[0].reaches {
            Some(reaches) => reaches == pair[1].base,
            None => pair[1].previous == Some(pair[0].base),
        };
        if !follows {
            let missing = pair[0].reaches.or(pair[1].previous).unwrap_or(pair[0].base);
            let what = format!("this segment file is missing before the one of offset {}", pair[1].base);
            return Err(place.corrupt(missing, &place.segment(missing), 0, &what));
        }
    }
    Ok(())
}

/// Checks every frame of the last segment, cuts a torn tail, makes the rest durable.
fn open_last(
    place: &Place,
    header: &SegmentHeader,
    mark: Option<Mark>,
    writable: bool,
) -> Result<(Active, Offset, u64), BrokerError> {
    let path = place.segment(header.base);
    let file =
        OpenOptions::new().read(true).write(writable).open(&path).map_err(|e| BrokerError::io("open", &path, e))?;
    let file_len = file.metadata().map_err(|e| BrokerError::io("inspect", &path, e))?.len();
    let mut index = SparseIndex::new(header.base);
    let mut scanner = Scanner::frames(&file, place.seed, segment::HEADER_LEN, header.base, file_len);
    let torn = loop {
        match scanner.step().map_err(|e| BrokerError::io("read", &path, e))? {
            Step::End => break None,
            Step::Frame { position, header, .. } => index.note(header.base, position),
            Step::Bad { fault: FrameFault::Newer(found), .. } => {
                return Err(BrokerError::NewerFormat { file: path, found: found.into(), known: frame::VERSION.into() });
            }
            Step::Bad { fault, .. } => break Some(fault),
        }
    };
    let (len, end) = (scanner.position(), scanner.expected());
    let later = match torn {
        Some(_) => later_proof(&file, place.seed, len, file_len, end).map_err(|e| BrokerError::io("read", &path, e))?,
        None => None,
    };
    match judge(end, torn, mark.map(|m| m.end), later) {
        Tail::Lost(what) => return Err(place.corrupt(end, &path, len, &what)),
        Tail::Cut if writable => cut(&file, &path, len)?,
        Tail::Cut | Tail::Whole => {}
    }
    // Frames may have been written and not synced before the crash; they become visible now, so they must be durable.
    file.sync_data().map_err(|e| BrokerError::io("sync", &path, e))?;
    let active = Active { id: 0, header: *header, file: file.into(), durable_len: len, index };
    Ok((active, end, file_len - len))
}

fn cut(file: &File, path: &Path, len: u64) -> Result<(), BrokerError> {
    file.set_len(len).map_err(|e| BrokerError::io("cut", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_frame_is_cut_only_where_nothing_proves_that_it_was_durable() {
        let end = Offset(10);
        let torn = Some(FrameFault::CutShort);
        assert_eq!(judge(end, None, None, None), Tail::Whole);
        assert_eq!(judge(end, None, Some(end), None), Tail::Whole);
        assert_eq!(judge(end, torn, None, None), Tail::Cut);
        assert_eq!(judge(end, torn, Some(end), Some(end)), Tail::Cut);
        for lost in [
            judge(end, torn, Some(Offset(11)), None),
            judge(end, torn, None, Some(Offset(11))),
            judge(end, None, Some(Offset(11)), None),
        ] {
            assert!(matches!(lost, Tail::Lost(_)), "{lost:?}");
        }
    }

    fn header(base: u64, reaches: Option<u64>) -> SegmentHeader {
        SegmentHeader { base: Offset(base), previous: None, reaches: reaches.map(Offset), created_at_ms: 0 }
    }

    #[test]
    fn left_overs_are_what_retention_or_compaction_had_not_removed_yet() {
        let mut headers = vec![header(0, None), header(10, Some(40)), header(20, None), header(40, None)];
        assert_eq!(left_overs(&mut headers, Offset(10)), [Offset(0), Offset(20)]);
        let bases: Vec<u64> = headers.iter().map(|h| h.base.0).collect();
        assert_eq!(bases, [10, 40]);
    }
}
