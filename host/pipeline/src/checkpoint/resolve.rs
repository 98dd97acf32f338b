//! Which checkpoint to start from, and which to forget: pure functions of what the store lists.

use clickmill_schemas::{Epoch, Offset};

use super::format::{Checkpoint, Damaged};

/// Name of a checkpoint in its store. Ordered by (epoch, offset): the greatest is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointName {
    pub epoch: Epoch,
    pub offset: Offset,
}

impl CheckpointName {
    #[must_use]
    pub fn file(&self) -> String {
        format!("{:010}-{:020}.ckpt", self.epoch.0, self.offset.0)
    }

    /// Reads a name of the store; none where it names something else.
    #[must_use]
    pub fn parse(file: &str) -> Option<Self> {
        let (epoch, offset) = file.strip_suffix(".ckpt")?.split_once('-')?;
        Some(Self { epoch: epoch.parse().ok()?, offset: offset.parse().ok()? })
    }
}

/// Name under which a term's epoch is taken.
#[must_use]
pub fn epoch_file(epoch: Epoch) -> String {
    format!("epoch-{:010}", epoch.0)
}

/// The first epoch that nobody has had, as far as these names tell.
#[must_use]
pub fn next_epoch(names: &[String]) -> Epoch {
    let taken = names.iter().filter_map(|name| match name.strip_prefix("epoch-") {
        Some(epoch) => epoch.parse().ok(),
        None => CheckpointName::parse(name).map(|c| c.epoch.0),
    });
    Epoch(taken.max().unwrap_or(0) + 1)
}

/// Checkpoints among these names, newest first.
#[must_use]
pub fn newest_first(names: &[String]) -> Vec<CheckpointName> {
    let mut found: Vec<_> = names.iter().filter_map(|n| CheckpointName::parse(n)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

/// Names that `kept` newer checkpoints make superfluous, and epochs before the one that `current` holds.
#[must_use]
pub fn superfluous(names: &[String], kept: usize, current: Epoch) -> Vec<String> {
    let old_checkpoints = newest_first(names).into_iter().skip(kept.max(1)).map(|c| c.file());
    let old_epochs = names
        .iter()
        .filter(|n| n.strip_prefix("epoch-").and_then(|e| e.parse().ok()).is_some_and(|e: u64| e < current.0))
        .cloned();
    old_checkpoints.chain(old_epochs).collect()
}

/// What to start from.
#[derive(Debug)]
pub enum Choice {
    /// The newest sound checkpoint, and the newer ones that were damaged.
    Resume { checkpoint: Box<Checkpoint>, damaged: Vec<(CheckpointName, Damaged)> },
    /// There never was one.
    Fresh,
    /// There were some and none is sound.
    AllDamaged(Vec<(CheckpointName, Damaged)>),
    /// One was written by a newer version: starting from an older one would undo what that version did.
    Newer(CheckpointName, Damaged),
}

/// Chooses among candidates, given newest first. Lazy: stops reading at the first sound one.
pub fn choose<E>(
    candidates: impl IntoIterator<Item = Result<(CheckpointName, Result<Checkpoint, Damaged>), E>>,
) -> Result<Choice, E> {
    let mut damaged = Vec::new();
    for candidate in candidates {
        match candidate? {
            (_, Ok(checkpoint)) => {
                return Ok(Choice::Resume { checkpoint: Box::new(checkpoint), damaged });
            }
            (name, Err(why @ Damaged::Newer { .. })) => return Ok(Choice::Newer(name, why)),
            (name, Err(why)) => damaged.push((name, why)),
        }
    }
    Ok(if damaged.is_empty() { Choice::Fresh } else { Choice::AllDamaged(damaged) })
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::sample;
    use super::*;

    fn name(epoch: u64, offset: u64) -> CheckpointName {
        CheckpointName { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    fn names(list: &[(u64, u64)]) -> Vec<String> {
        list.iter().map(|(e, o)| name(*e, *o).file()).collect()
    }

    #[test]
    fn names_read_back_and_sort_by_epoch_then_offset() {
        let all = names(&[(2, 5), (10, 1), (2, 40)]);
        assert_eq!(newest_first(&all), [name(10, 1), name(2, 40), name(2, 5)]);
        assert_eq!(CheckpointName::parse("epoch-0000000001"), None);
        assert_eq!(CheckpointName::parse("1-2.ckpt.bak"), None);
    }

    #[test]
    fn the_next_epoch_is_above_every_epoch_and_checkpoint() {
        assert_eq!(next_epoch(&[]), Epoch(1));
        let mut all = names(&[(4, 1)]);
        all.push(epoch_file(Epoch(6)));
        assert_eq!(next_epoch(&all), Epoch(7));
    }

    #[test]
    fn the_last_three_are_kept_and_old_epochs_go() {
        let mut all = names(&[(1, 1), (1, 2), (2, 3), (2, 4)]);
        all.extend([epoch_file(Epoch(1)), epoch_file(Epoch(2))]);
        assert_eq!(superfluous(&all, 3, Epoch(2)), [name(1, 1).file(), epoch_file(Epoch(1))]);
    }

    type Candidate = Result<(CheckpointName, Result<Checkpoint, Damaged>), ()>;

    #[test]
    fn a_damaged_checkpoint_falls_back_to_the_one_before() {
        let candidates: Vec<Candidate> =
            vec![Ok((name(2, 4), Err(Damaged::Magic))), Ok((name(2, 3), Ok(sample(2, 3)))), Err(())];
        match choose(candidates) {
            Ok(Choice::Resume { checkpoint, damaged }) => {
                assert_eq!(checkpoint.offset, Offset(3));
                assert_eq!(damaged, [(name(2, 4), Damaged::Magic)]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn none_is_fresh_all_damaged_is_not_and_a_newer_format_stops() {
        assert!(matches!(choose(Vec::<Candidate>::new()), Ok(Choice::Fresh)));
        let bad: Vec<Candidate> = vec![Ok((name(1, 1), Err(Damaged::Magic)))];
        assert!(matches!(choose(bad), Ok(Choice::AllDamaged(_))));
        let newer: Vec<Candidate> =
            vec![Ok((name(1, 1), Err(Damaged::Newer { found: 9 }))), Ok((name(1, 0), Ok(sample(1, 0))))];
        assert!(matches!(choose(newer), Ok(Choice::Newer(..))));
    }
}
