//! Whatever the order in the files and however little memory: the order of a plain stable sort.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::input::chunks;
use super::super::input::files::Source;
use super::super::survey::survey;
use super::*;

/// Remembers what came out.
#[derive(Default)]
struct Seen {
    rows: Vec<(Option<EpochHour>, String)>,
    bad: Vec<u64>,
    stop_after: Option<usize>,
}

impl Outlet for Seen {
    fn row(&mut self, row: &Row<'_>, hour: Option<EpochHour>) -> anyhow::Result<ControlFlow<()>> {
        assert!(row.text.len() >= row.spans[WIDTH - 1].1 as usize + PADDING);
        let fields: Vec<String> = (0..WIDTH).map(|c| String::from_utf8_lossy(row.field(c)).into_owned()).collect();
        self.rows.push((hour, fields.join("|")));
        Ok(if self.stop_after == Some(self.rows.len()) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn bad(&mut self, place: Place, _raw: &[u8], _fault: Fault) -> anyhow::Result<ControlFlow<()>> {
        self.bad.push(place.line);
        Ok(ControlFlow::Continue(()))
    }
}

fn line(id: usize, hour: &str) -> String {
    // Rows of different lengths, some with quotes.
    let site = if id.is_multiple_of(7) { "\"a,\"\"b\"" } else { &"s".repeat(id % 11) };
    format!("{id},0,{hour},1,0,{site}{}\n", ",x".repeat(18))
}

fn ordered(lines: &[String], memory_bytes: u64, stop_after: Option<usize>) -> (Seen, Survey) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    let header = format!("{}\n", super::super::input::columns::COLUMNS.join(","));
    std::fs::write(&path, [header.as_str(), &lines.concat()].concat()).unwrap();
    let sources = [Source::file(&path)];
    let survey = survey(&sources, 1000, &Arc::default()).unwrap();
    let limits = Limits { memory_bytes, spill_dir: dir.path() };
    let mut seen = Seen { stop_after, ..Seen::default() };
    for undated_pass in [false, true] {
        std::thread::scope(|scope| {
            let (chunks, _) = chunks::read(scope, sources.to_vec(), 1000, Arc::default());
            let mut rows = RowReader::new(chunks, &sources, 1000);
            let flow = if undated_pass {
                undated(&mut rows, &mut seen)
            } else {
                dated(&mut rows, &survey, &limits, &mut seen)
            };
            assert_eq!(flow.unwrap().is_break(), stop_after.is_some_and(|n| n <= seen.rows.len()));
        });
        if stop_after.is_some() {
            break;
        }
    }
    (seen, survey)
}

/// The same by sorting.
fn naive(hours: &[String]) -> Vec<usize> {
    let key = |i: &usize| EpochHour::parse(hours[*i].as_bytes()).map_or((1, EpochHour(0)), |hour| (0, hour));
    let mut order: Vec<usize> = (0..hours.len()).collect();
    order.sort_by_key(key);
    order
}

fn ids(seen: &Seen) -> Vec<usize> {
    seen.rows.iter().map(|(_, row)| row.split('|').next().unwrap().parse().unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn rows_come_in_the_order_of_a_stable_sort(
        hours in proptest::collection::vec(prop_oneof![
            20 => (0u32..90).prop_map(|h| format!("1410{:02}{:02}", 21 + h / 24, h % 24)),
            1 => Just("141021".to_owned()),
            1 => Just("20141021".to_owned()),
        ], 0..400),
        memory_bytes in prop_oneof![Just(0u64), 200u64..3000, 3000u64..200_000],
    ) {
        let lines: Vec<String> = hours.iter().enumerate().map(|(id, hour)| line(id, hour)).collect();
        let (seen, survey) = ordered(&lines, memory_bytes, None);
        prop_assert_eq!(ids(&seen), naive(&hours));
        prop_assert_eq!(seen.rows.len() as u64, survey.rows());
        for (hour, row) in &seen.rows {
            let text = row.split('|').nth(2).unwrap();
            prop_assert_eq!(*hour, EpochHour::parse(text.as_bytes()));
        }
    }
}

#[test]
fn sorting_keeps_every_field_and_bad_lines_are_told_of() {
    let mut lines: Vec<String> = (0..3_000).map(|id| line(id, ["14102105", "14102103", "14102104"][id % 3])).collect();
    lines.insert(1_500, "what is this\n".to_owned());
    let (whole, _) = ordered(&lines, u64::MAX, None);
    for memory_bytes in [0, 20_000, 150_000] {
        let (spilled, survey) = ordered(&lines, memory_bytes, None);
        assert_eq!(spilled.rows, whole.rows);
        assert_eq!(spilled.bad, [1_502]);
        assert!(!survey.in_order);
    }
    assert!(whole.rows.iter().any(|(_, row)| row.contains("|a,\"b|")));
}

#[test]
fn an_outlet_can_stop_a_sort_at_any_row() {
    let lines: Vec<String> = (0..100).map(|id| line(id, ["14102105", "14102103"][id % 2])).collect();
    for memory_bytes in [0, 3_000, u64::MAX] {
        for stop in [1, 50, 51, 100] {
            assert_eq!(ordered(&lines, memory_bytes, Some(stop)).0.rows.len(), stop);
        }
    }
}
