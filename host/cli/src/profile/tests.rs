//! Profiles of small files, against counts made another way.

use super::*;

fn generated(rows: u64, dir: &Path) -> (PathBuf, String) {
    let mut csv = Vec::new();
    crate::generate::write_rows(rows, 5, 240, &mut csv, &indicatif::ProgressBar::hidden()).unwrap();
    let path = dir.join("rows.csv");
    std::fs::write(&path, &csv).unwrap();
    (path, String::from_utf8(csv).unwrap())
}

#[test]
fn a_report_says_what_a_plain_count_says() {
    let dir = tempfile::tempdir().unwrap();
    let (path, csv) = generated(100_000, dir.path());
    let tally = read(&Source::file(&path)).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().skip(1).map(|l| l.split(',').collect()).collect();
    assert_eq!(tally.total.rows, 100_000);
    assert_eq!(tally.total.clicks, rows.iter().filter(|r| r[1] == "1").count() as u64);
    for column in [2, 3, 4, 7, 11, 13] {
        let mut plain = std::collections::HashMap::<&str, u64>::new();
        for row in &rows {
            *plain.entry(row[column]).or_default() += 1;
        }
        assert_eq!(tally.columns[column].distinct(), (plain.len() as u64, true));
        for (value, count) in tally.columns[column].by_rows() {
            assert_eq!(count.rows, plain[std::str::from_utf8(value).unwrap()], "column {column}");
        }
    }
    let (ids, exact) = tally.columns[0].distinct();
    assert!(!exact && ids.abs_diff(100_000) < 2_500, "{ids}");
    let text = report::markdown("rows.csv", &tally, &[]);
    for needle in ["| rows | 100,000 |", "| hours | 240, `14102100` to `14103023` |", "## site_category", "## Days"] {
        assert!(text.contains(needle), "{needle} is not in {text}");
    }
}

#[test]
fn bad_lines_are_counted_and_the_first_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, csv) = generated(30, dir.path());
    let damaged: String = csv
        .lines()
        .enumerate()
        .map(|(i, l)| if i % 2 == 1 { "x|`y,\n".to_owned() } else { format!("{l}\n") })
        .collect();
    std::fs::write(&path, damaged).unwrap();
    let tally = read(&Source::file(&path)).unwrap();
    assert_eq!((tally.total.rows, tally.bad_lines, tally.named_bad_lines.len()), (15, 15, NAMED));
    let text = report::markdown("rows.csv", &tally, &[]);
    assert!(text.contains("- line 2: 2 columns instead of 24\n- line 4: "), "{text}");
}

const NAMED: usize = tally::NAMED_BAD_LINES;

#[test]
fn the_report_and_its_plots_stand_beside_each_other() {
    let dir = tempfile::tempdir().unwrap();
    for rows in [0, 1, 3_000] {
        let (file, _) = generated(rows, dir.path());
        let out = dir.path().join("report.md");
        run(&Args { file, out: Some(out.clone()) }).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        assert_eq!(text.contains("| CTR | - |"), rows == 0, "{text}");
        for plot in ["report-hours.svg", "report-ctr.svg"] {
            assert!(text.contains(&format!("]({plot})")));
            let svg = std::fs::read_to_string(dir.path().join(plot)).unwrap();
            assert!(svg.trim_end().ends_with("</svg>") && svg.contains("CTR by"), "{rows} rows: {plot}");
        }
    }
}

#[test]
fn real_rows_have_the_known_profile() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/avazu_20k.csv");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let tally = read(&Source::file(&path)).unwrap();
    assert_eq!((tally.total.rows, tally.bad_lines), (19_994, 0));
    assert!((tally.total.ctr() - 0.168).abs() < 0.001);
    assert_eq!(tally.hours().len(), 240);
}
