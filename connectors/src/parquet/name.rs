//! What the files' names tell: which offsets of which partition each covers.

use clickmill_broker::TopicPartition;
use clickmill_schemas::Offset;

/// The offsets that a file covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub from: Offset,
    /// Exclusive.
    pub to: Offset,
}

impl Span {
    pub const fn len(self) -> u64 {
        self.to.0.saturating_sub(self.from.0)
    }

    /// Whether `other` has all of it and more.
    pub fn is_within(self, other: Self) -> bool {
        self != other && other.from <= self.from && self.to <= other.to
    }

    /// `ctr_windows-0-00000000000000000000-00000000000000100000.parquet`: of one partition, sorted as their offsets are.
    pub fn file_name(self, at: &TopicPartition) -> String {
        format!("{}-{}-{:020}-{:020}.parquet", at.topic, at.partition, self.from, self.to)
    }

    /// None where it is no file of this partition.
    pub fn of_file(name: &str, at: &TopicPartition) -> Option<Self> {
        let offsets = name.strip_prefix(&format!("{}-{}-", at.topic, at.partition))?.strip_suffix(".parquet")?;
        let (from, to) = offsets.split_once('-')?;
        let span = Self { from: from.parse().ok()?, to: to.parse().ok()? };
        // Written any other way, it is somebody else's.
        (span.from < span.to && span.file_name(at) == name).then_some(span)
    }
}

/// The end of what sorted spans cover from 0 on without a gap.
pub fn covered(spans: &[Span]) -> Offset {
    spans.iter().fold(Offset(0), |end, span| if span.from <= end { end.max(span.to) } else { end })
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::PartitionId;

    use super::*;

    fn span(from: u64, to: u64) -> Span {
        Span { from: Offset(from), to: Offset(to) }
    }

    #[test]
    fn a_name_tells_its_offsets_and_no_other_name_is_taken_for_one() {
        let at = TopicPartition::new("ctr_windows", PartitionId(0));
        let name = "ctr_windows-0-00000000000000000000-00000000000000100000.parquet";
        assert_eq!(span(0, 100_000).file_name(&at), name);
        assert_eq!(Span::of_file(name, &at), Some(span(0, 100_000)));
        let most = span(0, u64::MAX);
        assert_eq!(Span::of_file(&most.file_name(&at), &at), Some(most));
        for other in [
            &name[1..],
            "ctr_windows-0-0-100000.parquet",
            "ctr_windows-1-00000000000000000000-00000000000000100000.parquet",
            "ctr_windows-0-00000000000000100000-00000000000000100000.parquet",
            "ctr_windows-0-00000000000000000000-00000000000000100000.parquet#1",
        ] {
            assert_eq!(Span::of_file(other, &at), None, "{other}");
        }
    }

    #[test]
    fn what_is_covered_ends_at_the_first_gap() {
        assert_eq!(covered(&[]), Offset(0));
        assert_eq!(covered(&[span(1, 5)]), Offset(0));
        assert_eq!(covered(&[span(0, 10), span(3, 5), span(10, 12), span(13, 20)]), Offset(12));
    }
}
