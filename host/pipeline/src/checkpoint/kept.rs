//! The checkpoints that are kept and the output ends that each stores: what retention may not take. Pure.

use clickmill_schemas::Offset;

use super::format::OutputEnds;
use super::resolve::CheckpointName;

/// Kept checkpoints, oldest first.
#[derive(Debug, Default)]
pub struct Kept(Vec<(CheckpointName, OutputEnds)>);

impl Kept {
    /// Of what was found in the store, newest first.
    #[must_use]
    pub fn found(newest_first: impl DoubleEndedIterator<Item = (CheckpointName, OutputEnds)>) -> Self {
        Self(newest_first.rev().collect())
    }

    /// A checkpoint of this name was to be written. One that existed stays as it is, with the ends that it had: an idle
    /// partition commits at the same offset again and again.
    pub fn written(&mut self, name: CheckpointName, ends: OutputEnds) {
        if self.0.last().is_none_or(|(last, _)| *last != name) {
            self.0.push((name, ends));
        }
    }

    /// Forgets what is older than `oldest`, and says what that one needs. None where nothing is known of it: then the
    /// floor stays as it was.
    pub fn floor(&mut self, oldest: CheckpointName) -> Option<(Offset, OutputEnds)> {
        self.0.retain(|(name, _)| *name >= oldest);
        self.oldest().filter(|(name, _)| *name == oldest).map(|(name, ends)| (name.offset, ends))
    }

    #[must_use]
    pub fn oldest(&self) -> Option<(CheckpointName, OutputEnds)> {
        self.0.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use clickmill_schemas::Epoch;

    use super::*;

    fn name(epoch: u64, offset: u64) -> CheckpointName {
        CheckpointName { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    fn ends(windows: u64) -> OutputEnds {
        OutputEnds { windows: Offset(windows), errors: Offset(0) }
    }

    #[test]
    fn commits_at_one_offset_are_one_checkpoint_with_the_ends_that_its_file_has() {
        let mut kept = Kept::found([(name(1, 9), ends(4)), (name(1, 5), ends(2))].into_iter());
        for commit in 0..1_000 {
            kept.written(name(2, 9), ends(10 + commit));
        }
        assert_eq!(kept.0, [(name(1, 5), ends(2)), (name(1, 9), ends(4)), (name(2, 9), ends(10))]);
    }

    #[test]
    fn the_floor_is_what_the_oldest_one_needs_where_it_is_known() {
        let mut kept = Kept::default();
        kept.written(name(2, 3), ends(6));
        kept.written(name(2, 7), ends(8));
        assert_eq!(kept.floor(name(1, 1)), None);
        assert_eq!(kept.floor(name(2, 7)), Some((Offset(7), ends(8))));
        assert_eq!(kept.oldest(), Some((name(2, 7), ends(8))));
    }
}
