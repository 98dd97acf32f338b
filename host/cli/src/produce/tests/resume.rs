//! Interruptions: every row once, whatever was sent before them.

use clickmill_schemas::record::RecordSetBuilder;
use proptest::prelude::*;

use super::super::rounds::{Batch, Positions, Round};
use super::*;

/// Passes a number of batches on and then fails, in the middle of a round.
struct Interrupted<'a> {
    inner: &'a mut dyn Destination,
    batches_left: usize,
}

impl Destination for Interrupted<'_> {
    fn partitions(&self) -> u32 {
        self.inner.partitions()
    }

    fn positions(&mut self, source: u64) -> anyhow::Result<Positions> {
        self.inner.positions(source)
    }

    fn send(&mut self, source: u64, rounds: Vec<Round>, spare: &mut Vec<RecordSetBuilder>) -> anyhow::Result<()> {
        for round in rounds {
            let mut keep = |batches: Vec<Batch>| -> Vec<Batch> {
                let kept: Vec<Batch> = batches.into_iter().take(self.batches_left).collect();
                self.batches_left -= kept.len();
                kept
            };
            let (events, dead_letters) = (keep(round.events), keep(round.dead_letters));
            self.inner.send(source, vec![Round { events, dead_letters }], spare)?;
            if self.batches_left == 0 {
                self.inner.finish()?;
                anyhow::bail!("interrupted");
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        self.inner.finish()
    }
}

/// Produces with an interruption after so many batches.
fn produce_interrupted(bed: &Bed, args: &Args, batches: usize) -> anyhow::Result<Produced> {
    let place = bed.place();
    let scratch = Scratch::new(&place.data_dir);
    let prepared = send::prepare(Input::open(args, &scratch)?, args.max_line_bytes as usize)?;
    let mut inner = destination(&place)?;
    let mut interrupted = Interrupted { inner: inner.as_mut(), batches_left: batches };
    send::send(prepared, args, &scratch, &mut interrupted)
}

/// Rows of a few hours, unsorted, with damaged lines between them; some ten rounds.
fn many_rows() -> Vec<u8> {
    csv((0..8_000u64).map(|i| match i % 40 {
        39 => format!("damaged {i}\n"),
        n => row(&(i * 7_919).to_string(), ["14102103", "14102101", "14102102", "nonsense"][(n % 16 / 5) as usize]),
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn after_any_interruptions_the_topics_are_those_of_an_undisturbed_run(
        stops in proptest::collection::vec(1usize..20, 1..4),
        as_lines: bool,
    ) {
        let undisturbed = Bed::new();
        let disturbed = Bed::new();
        let name = if as_lines { "rows.jsonl" } else { "rows.csv" };
        let args = args(&undisturbed.file(name, &many_rows()));
        let whole = undisturbed.produce(&args).unwrap().summary;
        let mut resume = false;
        for batches in stops {
            if produce_interrupted(&disturbed, &Args { resume, ..args_like(&args) }, batches).is_ok() {
                break;
            }
            resume = true;
        }
        let rest = disturbed.produce(&Args { resume: true, ..args_like(&args) }).unwrap().summary;
        prop_assert_eq!(rest.rows_already_there + rest.rows_sent, whole.rows_sent);
        prop_assert_eq!(disturbed.events(), undisturbed.events());
        let without_time = |bed: &Bed| -> Vec<Value> {
            let strip = |mut letter: Value| {
                letter.as_object_mut().unwrap().remove("error_timestamp_ms");
                letter
            };
            bed.dead_letters().into_iter().map(strip).collect()
        };
        prop_assert_eq!(without_time(&disturbed), without_time(&undisturbed));
    }
}

fn args_like(args: &Args) -> Args {
    Args { files: args.files.clone(), ..self::args(Path::new("")) }
}

#[test]
fn the_same_rows_are_not_sent_twice_unless_asked_for() {
    let bed = Bed::new();
    let path = bed.file("rows.csv", &csv([row("1", "14102100"), row("2", "14102100")]));
    bed.produce(&args(&path)).unwrap();
    let copy = bed.file("copy.csv", &std::fs::read(&path).unwrap());
    let error = bed.produce(&args(&copy)).unwrap_err();
    assert_eq!(crate::exit::code_of(&error), 2, "{error}");
    assert!(error.to_string().contains("--resume") && error.to_string().contains("--again"));
    let resumed = bed.produce(&Args { resume: true, ..args(&copy) }).unwrap().summary;
    assert_eq!((resumed.rows_sent, resumed.rows_already_there), (0, 2));
    bed.produce(&Args { again: true, ..args(&path) }).unwrap();
    assert_eq!(bed.events().concat().len(), 4);
    let longer = bed.file("longer.csv", &csv([row("1", "14102100"), row("2", "14102100"), row("3", "14102100")]));
    bed.produce(&args(&longer)).unwrap();
    assert_eq!(bed.events().concat().len(), 7);
}

#[test]
fn a_resume_of_what_was_never_sent_sends_all() {
    let bed = Bed::new();
    let path = bed.file("rows.csv", &csv([row("1", "14102100")]));
    assert_eq!(bed.produce(&Args { resume: true, ..args(&path) }).unwrap().summary.rows_sent, 1);
}
