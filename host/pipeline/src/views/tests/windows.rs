//! Rows of windows: merged, fenced, ordered, final.

use super::*;

fn short(rows: &[WindowRow]) -> Vec<(i64, &str, &str, i64)> {
    rows.iter()
        .map(|r| (r.window.start_ms / MINUTE, r.window.dimension.as_str(), r.key.as_str(), r.metrics.impressions))
        .collect()
}

#[test]
fn partitions_add_up_and_rows_come_by_start_dimension_and_key_bytewise() {
    let f = Fixture::new();
    f.partial(0, (1, 5), (MINUTE, MINUTE, "site_category"), &[("b", 2, 1), ("B", 1, 0), ("é", 4, 0)]);
    f.partial(1, (1, 5), (MINUTE, MINUTE, "site_category"), &[("b", 3, 1)]);
    f.partial(0, (1, 5), (MINUTE, 0, "total"), &[("", 9, 3)]);
    f.partial(0, (1, 5), (MINUTE, 0, "banner_pos"), &[("0", 9, 3)]);
    f.partial(0, (1, 5), (5 * MINUTE, 0, "total"), &[("", 99, 3)]);
    let rows = f.rows(&WindowQuery { size_ms: MINUTE, ..WindowQuery::default() });
    let expected = [
        (0, "banner_pos", "0", 9),
        (0, "total", "", 9),
        (1, "site_category", "B", 1),
        (1, "site_category", "b", 5),
        (1, "site_category", "é", 4),
    ];
    assert_eq!(short(&rows), expected);
    assert_eq!(rows[3].metrics.clicks, 2);
}

#[test]
fn a_query_takes_windows_by_start_from_inclusive_to_exclusive() {
    let f = Fixture::new();
    for start in 0..4 {
        f.partial(0, (1, 1), (MINUTE, start * MINUTE, "total"), &[("", 1, 0)]);
    }
    let query = WindowQuery { from_ms: Some(MINUTE), to_ms: Some(3 * MINUTE), ..minutes("total") };
    assert_eq!(short(&f.rows(&query)), [(1, "total", "", 1), (2, "total", "", 1)]);
}

#[test]
fn more_windows_than_a_pass_may_hold_come_in_several_passes_and_one_that_is_larger_is_an_error() {
    let f = Fixture::new();
    for start in [5, 3, 8, 0, 1, 9, 2, 7, 6, 4] {
        for (partition, dimension) in [(0, "total"), (1, "total"), (1, "device_type")] {
            f.partial(partition, (1, 1), (MINUTE, start * MINUTE, dimension), &[("k", start + 1, 0)]);
        }
    }
    // A newer version that comes after its window had to leave the first pass.
    f.partial(0, (1, 2), (MINUTE, 9 * MINUTE, "total"), &[("k", 100, 0)]);
    let query = WindowQuery { size_ms: MINUTE, ..WindowQuery::default() };
    let at_once = f.rows(&query);
    assert_eq!(at_once.len(), 20);
    assert_eq!(at_once.last().unwrap().metrics.impressions, 110);
    for limit_bytes in [600, 1_000, 2_500] {
        let windows = Windows::read(&f.log, query.clone(), limit_bytes).unwrap();
        let rows: Vec<WindowRow> = windows.into_rows().map(Result::unwrap).collect();
        assert_eq!(rows, at_once, "{limit_bytes} bytes a pass");
    }
    assert!(matches!(Windows::read(&f.log, query, 400), Err(ViewError::TooLarge { limit_bytes: 400 })));
}

#[test]
fn a_newer_version_replaces_and_an_older_one_or_a_fenced_one_does_not() {
    let f = Fixture::new();
    let window = (MINUTE, 0, "total");
    f.partial(0, (1, 10), window, &[("", 10, 0)]);
    f.partial(0, (1, 9), window, &[("", 9, 0)]);
    assert_eq!(f.rows(&minutes("total"))[0].metrics.impressions, 10);
    f.output(0, 2, Body::Epoch);
    // A window that only the frozen worker writes, after its successor began.
    f.partial(0, (1, 20), (MINUTE, MINUTE, "total"), &[("", 77, 0)]);
    f.partial(0, (2, 8), window, &[("", 8, 0)]);
    let rows = f.rows(&minutes("total"));
    assert_eq!(short(&rows), [(0, "total", "", 8)]);
}

#[test]
fn a_window_is_final_once_every_partition_has_closed_it_and_empty_ones_are_not_shown() {
    let f = Fixture::new();
    f.partial(0, (1, 5), (MINUTE, 0, "total"), &[("", 1, 0), ("gone", 0, 0)]);
    f.partial(0, (1, 5), (MINUTE, MINUTE, "total"), &[("", 1, 0)]);
    f.commit(0, 1, 5, 10 * MINUTE);
    assert!(f.rows(&minutes("total")).iter().all(|r| !r.final_));
    f.commit(1, 1, 5, MINUTE);
    let finals: Vec<_> = f.rows(&minutes("total")).iter().map(|r| r.final_).collect();
    assert_eq!(finals, [true, false]);
}

#[test]
fn an_overflow_bucket_makes_the_dimension_of_that_window_a_lower_bound() {
    let f = Fixture::new();
    f.partial(0, (1, 5), (MINUTE, 0, "site_category"), &[("a", 1, 0), (OVERFLOW_KEY, 3, 0)]);
    f.partial(1, (1, 5), (MINUTE, 0, "site_category"), &[("b", 1, 0)]);
    assert!(f.rows(&minutes("site_category")).iter().all(|r| r.lower_bound));
}

#[test]
fn a_record_that_no_worker_wrote_is_named_with_its_place() {
    let f = Fixture::new();
    f.append(CTR_WINDOWS, 0, &[(None, b"{\"kind\":\"epoch\"}")]);
    let error = windows(&f.log, &minutes("total")).map(drop).unwrap_err().to_string();
    assert!(error.starts_with("topic ctr_windows, partition 0, offset 0: not an output record"), "{error}");
}
