//! Retention: which sealed segments go, by age and by bytes, oldest first and never at or above the floor.

use clickmill_schemas::Offset;

use super::disk;
use super::guard;
use super::partition::Partition;
use super::view::Segment;
use crate::error::BrokerError;
use crate::topic::Retention;

/// How many of the oldest sealed segments may go. `bytes` are those of the whole partition.
fn expired(sealed: &[Segment], bytes: u64, retention: &Retention, floor: Option<Offset>, now_ms: i64) -> usize {
    let mut left = bytes;
    let goes = |segment: &&Segment| {
        let too_old = retention.max_age.is_some_and(|age| {
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            segment.sealed_at_ms < now_ms.saturating_sub(age_ms)
        });
        let too_many = retention.max_bytes.is_some_and(|max| left > max);
        left = left.saturating_sub(segment.len);
        (too_old || too_many) && floor.is_none_or(|floor| segment.end <= floor)
    };
    sealed.iter().take_while(goes).count()
}

impl Partition {
    /// Removes what `retention` lets go of; the number of segments that went.
    pub(super) fn trim(&self, retention: &Retention, now_ms: i64) -> Result<usize, BrokerError> {
        if let Some(age) = retention.max_age {
            // A quiet partition's records would otherwise stay until its segment is full.
            let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
            self.roll_if_older(now_ms.saturating_sub(age_ms))?;
        }
        let upkeep = guard(&self.upkeep); // held to the end: the floor must not move meanwhile
        let (gone, start) = {
            let view = guard(&self.view);
            let count = expired(&view.sealed, view.stored_bytes(), retention, upkeep.floor, now_ms);
            let gone: Vec<Offset> = view.sealed[..count].iter().map(|s| s.header.base).collect();
            (gone, view.sealed.get(count).map_or(view.active.header.base, |s| s.header.base))
        };
        if gone.is_empty() {
            return Ok(0);
        }
        self.with_mark(|mark| mark.set_start(start))?;
        {
            let mut view = guard(&self.view);
            view.sealed.drain(..gone.len());
            view.forget_files();
        }
        disk::remove(&self.place.dir, gone.iter().map(|base| self.place.segment(*base)))?;
        tracing::info!(partition = %self.place.at, segments = gone.len(), start = start.0, "retention removed segments");
        Ok(gone.len())
    }

    /// See [`Broker::keep_from`](crate::Broker::keep_from).
    pub(super) fn keep_from(&self, floor: Offset) {
        let mut upkeep = guard(&self.upkeep);
        upkeep.floor = Some(floor);
        if let Err(error) = self.with_mark(|mark| mark.set_floor(floor)) {
            tracing::warn!(partition = %self.place.at, %error, "the floor holds, but not beyond a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::segment::SegmentHeader;
    use super::*;

    fn segments() -> Vec<Segment> {
        (0..5u64)
            .map(|n| Segment {
                id: n,
                header: SegmentHeader { base: Offset(n * 10), previous: None, reaches: None, created_at_ms: 0 },
                end: Offset(n * 10 + 10),
                len: 100,
                sealed_at_ms: n as i64 * 1_000,
                index: None,
            })
            .collect()
    }

    #[test]
    fn the_oldest_segments_go_by_age_or_by_bytes_but_never_at_or_above_the_floor() {
        let age = Retention { max_age: Some(Duration::from_secs(1)), max_bytes: None };
        let bytes = Retention { max_age: None, max_bytes: Some(350) };
        let all = segments();
        assert_eq!(expired(&all, 550, &Retention::default(), None, 1 << 40), 0);
        assert_eq!(expired(&all, 550, &age, None, 3_500), 3);
        assert_eq!(expired(&all, 550, &bytes, None, 0), 2);
        for retention in [age, bytes] {
            assert_eq!(expired(&all, 550, &retention, Some(Offset(19)), 3_500), 1);
            assert_eq!(expired(&all, 550, &retention, Some(Offset(20)), 3_500), 2);
            assert_eq!(expired(&all, 550, &retention, Some(Offset(0)), 3_500), 0);
        }
    }
}
