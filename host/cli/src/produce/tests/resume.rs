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
    let input = Input::open(args, &scratch)?;
    let limit = place.line_limit(args.max_line_bytes, &input)?;
    let prepared = send::prepare(input, limit)?;
    let mut inner = destination(&place)?;
    let mut interrupted = Interrupted { inner: inner.as_mut(), batches_left: batches };
    send::send(prepared, args, &scratch, &Notes::new(&place.data_dir), &mut interrupted)
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
}

/// Expects the user's mistake; its message.
fn refused(bed: &Bed, args: &Args) -> String {
    let error = bed.produce(args).unwrap_err();
    assert_eq!(crate::exit::code_of(&error), 2, "{error:#}");
    error.to_string()
}

#[test]
fn a_file_that_has_grown_since_or_comes_in_another_order_is_not_counted_twice() {
    let bed = Bed::new();
    let (a, b) = (csv([row("1", "14102100")]), csv([row("2", "14102101")]));
    let (a, b) = (bed.file("a.csv", &a), bed.file("b.csv", &b));
    bed.produce(&Args { files: vec![a.clone(), b.clone()], ..args(&a) }).unwrap();
    for resume in [false, true] {
        let swapped = refused(&bed, &Args { files: vec![b.clone(), a.clone()], resume, ..args(&a) });
        assert!(swapped.contains("in another order"), "{swapped}");
        assert!(refused(&bed, &Args { resume, ..args(&b) }).contains("leave it out"));
        let longer = bed.file("longer.csv", &csv([row("1", "14102100"), row("3", "14102100")]));
        let grown = refused(&bed, &Args { resume, ..args(&longer) });
        assert!(grown.contains("longer.csv begins with a file that was produced before"), "{grown}");
    }
    assert_eq!(bed.events().concat().len(), 2);
    bed.produce(&Args { again: true, ..args(&b) }).unwrap();
    assert_eq!(bed.events().concat().len(), 3);
    let other = bed.file("a.csv", &csv([row("4", "14102100")]));
    bed.produce(&args(&other)).unwrap();
    assert_eq!(bed.events().concat().len(), 4, "another file under a name that was used before is new");
}

#[test]
fn lines_that_were_added_since_are_not_sent_with_those_before_them() {
    let bed = Bed::new();
    let path = bed.file("app.jsonl", b"{\"id\":\"1\"}\n");
    bed.produce(&args(&path)).unwrap();
    let path = bed.file("app.jsonl", b"{\"id\":\"1\"}\n{\"id\":\"2\"}\n");
    assert!(refused(&bed, &Args { resume: true, ..args(&path) }).contains("send what is new as a file of its own"));
    assert_eq!(bed.events().concat().len(), 1);
}

#[test]
fn what_could_not_be_sent_for_another_reason_is_no_hindrance() {
    let bed = Bed::new();
    let first = args(&bed.file("rows.csv", &csv([row("1", "14102100")])));
    // Its note is there, and none of its rows.
    assert!(produce_interrupted(&bed, &first, 0).is_err());
    let grown = bed.file("rows.csv", &csv([row("1", "14102100"), row("2", "14102100")]));
    assert_eq!(bed.produce(&args(&grown)).unwrap().summary.rows_sent, 2);
}

#[test]
fn a_resume_keeps_the_limit_that_decided_which_lines_are_rows() {
    let bed = Bed::new();
    let path = bed.file("rows.csv", &csv([row("1", "14102100"), row(&"2".repeat(2_000), "14102100")]));
    bed.produce(&Args { max_line_bytes: Some(1_500), ..args(&path) }).unwrap();
    let other = refused(&bed, &Args { resume: true, ..args(&path) });
    assert!(other.contains("--max-line-bytes 1500"), "{other}");
    assert!(refused(&bed, &args(&path)).contains("were produced before"));
    let same = Args { resume: true, max_line_bytes: Some(1_500), ..args(&path) };
    assert_eq!(bed.produce(&same).unwrap().summary.rows_already_there, 1);
}

#[test]
fn a_limit_that_the_log_cannot_keep_is_refused_at_once() {
    let bed = Bed::new();
    let path = bed.file("rows.csv", &csv([row("1", "14102100")]));
    let refusal = refused(&bed, &Args { max_line_bytes: Some(64 << 20), ..args(&path) });
    assert!(refusal.contains("broker.max_batch_bytes"), "{refusal}");
    assert!(!bed.place().data_dir.exists());
}

#[test]
fn long_lines_go_into_the_topic_each_in_a_batch_of_its_own() {
    let bed = Bed::new();
    let line = |id: usize| format!("{{\"x\":\"{}\",\"id\":\"{id}\"}}\n", "y".repeat(3 << 20));
    let path = bed.file("long.jsonl", (0..4).map(line).collect::<String>().as_bytes());
    assert_eq!(bed.produce(&args(&path)).unwrap().summary.rows_sent, 4);
    let log = bed.log();
    for partition in 0..3 {
        let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(partition));
        let end = log.ends(&at).unwrap().end;
        let batches = log.fetch(&at, Offset(0), 64 << 20, Duration::ZERO).unwrap();
        assert_eq!(batches.len() as u64, end.0);
    }
}

#[test]
fn a_resume_of_what_was_never_sent_sends_all() {
    let bed = Bed::new();
    let path = bed.file("rows.csv", &csv([row("1", "14102100")]));
    assert_eq!(bed.produce(&Args { resume: true, ..args(&path) }).unwrap().summary.rows_sent, 1);
}
