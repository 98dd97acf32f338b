//! Random lives of a log against a plain list.

use clickmill_broker::{Broker, EmbeddedLog};
use clickmill_schemas::Offset;
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<Vec<u8>>),
    Reopen,
    /// Close, then put a torn write behind the tail.
    Crash(Vec<u8>),
    ReadFrom(u16),
    Last(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let value = prop_oneof![prop::collection::vec(any::<u8>(), 0..200), (0..2_000usize).prop_map(|n| vec![b'x'; n])];
    prop_oneof![
        6 => prop::collection::vec(value, 1..6).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        1 => prop::collection::vec(any::<u8>(), 1..300).prop_map(Step::Crash),
        2 => any::<u16>().prop_map(Step::ReadFrom),
        1 => any::<u16>().prop_map(Step::Last),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_the_list_of_what_was_appended(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(dir.path(), 1, 3_000);
        let mut list: Vec<Vec<u8>> = Vec::new();
        let mut bases: Vec<u64> = Vec::new();
        for step in steps {
            match step {
                Step::Append(values) => {
                    let base = log.append(&at(0), &set(&values)).unwrap().wait().unwrap();
                    prop_assert_eq!(base.0, list.len() as u64);
                    bases.push(base.0);
                    list.extend(values);
                }
                Step::Reopen | Step::Crash(_) => {
                    drop(log);
                    if let Step::Crash(torn) = step {
                        let tail = segments(dir.path(), 0).pop().unwrap();
                        let mut bytes = std::fs::read(&tail).unwrap();
                        bytes.extend(torn);
                        std::fs::write(&tail, bytes).unwrap();
                    }
                    log = EmbeddedLog::open(dir.path(), small(3_000)).unwrap().into();
                }
                Step::ReadFrom(n) => {
                    let from = usize::from(n) % (list.len() + 1);
                    let got = read_from(&*log, &at(0), Offset(from as u64)).unwrap();
                    let want = list.iter().enumerate().skip(from).map(|(n, v)| (n as u64, None, v.clone()));
                    prop_assert!(got.into_iter().eq(want));
                }
                Step::Last(n) => {
                    let wanted = bases.get(usize::from(n) % (bases.len() + 1)).copied();
                    let got = log.last_batch_with(&at(0), &mut |b| Some(b.base_offset.0) == wanted).unwrap();
                    prop_assert_eq!(got.map(|b| b.base_offset.0), wanted);
                }
            }
        }
        prop_assert_eq!(log.ends(&at(0)).unwrap().end.0, list.len() as u64);
        let got = read_all(&*log, &at(0)).unwrap();
        prop_assert!(got.into_iter().map(|(_, _, v)| v).eq(list));
    }
}
