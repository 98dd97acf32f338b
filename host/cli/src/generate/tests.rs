//! What `generate` promises: exact for a seed, hour order, unique ids, the published shares and rates.

use std::collections::{BTreeMap, HashSet};

use super::*;

fn generate(rows: u64, seed: u64, hours: u16) -> String {
    let mut out = Vec::new();
    write_rows(rows, seed, hours, &mut out, &ProgressBar::hidden()).unwrap();
    String::from_utf8(out).unwrap()
}

/// Impressions and clicks by value of a column.
fn tally(csv: &str, column: usize) -> BTreeMap<String, (f64, f64)> {
    let mut tally: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let entry = tally.entry(fields[column].to_owned()).or_default();
        entry.0 += 1.0;
        entry.1 += f64::from(u8::from(fields[1] == "1"));
    }
    tally
}

#[test]
fn a_seed_gives_the_same_file_for_good() {
    let csv = generate(1_000, 7, 240);
    assert_eq!(csv, generate(1_000, 7, 240));
    assert_ne!(csv, generate(1_000, 8, 240));
    let digest = twox_hash::XxHash3_64::oneshot(csv.as_bytes());
    assert_eq!(
        format!("{digest:016x}"),
        "f2a1d5932f48cfa9",
        "the file of seed 7 changed: a seed must mean the same for good"
    );
}

#[test]
fn rows_come_in_hour_order_with_unique_ids_and_24_fields() {
    let csv = generate(50_000, 3, 240);
    let mut ids = HashSet::new();
    let mut last = "";
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert_eq!(fields.len(), 24);
        assert!(fields[0].parse::<u64>().is_ok() && ids.insert(fields[0]), "{line}");
        assert!(fields[2] >= last, "{line}");
        last = fields[2];
    }
    assert_eq!(ids.len(), 50_000);
    let hours = tally(&csv, 2);
    assert_eq!(hours.len(), 240);
    assert_eq!((hours.first_key_value().unwrap().0.as_str(), last), ("14102100", "14103023"));
}

#[test]
fn fewer_hours_hold_all_rows() {
    let csv = generate(1_001, 1, 3);
    assert_eq!(csv.lines().count(), 1_002);
    assert_eq!(tally(&csv, 2).len(), 3);
    assert_eq!(generate(0, 1, 1), HEADER);
}

/// Shares and rates of every published value with enough rows to tell, within five standard deviations.
#[test]
fn shares_and_click_through_rates_are_the_published_ones() {
    let rows = 400_000.0;
    let csv = generate(400_000, 11, 240);
    let total = f64::from(figures::ROWS);
    let site_rest = (figures::NO_SITE_CATEGORY, figures::APP_TRAFFIC);
    let app_rest = (figures::NO_APP_CATEGORY, figures::SITE_TRAFFIC);
    let columns = [
        (7, figures::SITE_CATEGORY, Some(site_rest)),
        (10, figures::APP_CATEGORY, Some(app_rest)),
        (3, figures::C1, None),
        (4, figures::BANNER_POS, None),
        (15, figures::DEVICE_CONN_TYPE, None),
        (20, figures::C18, None),
    ];
    for (column, shares, rest) in columns {
        let tally = tally(&csv, column);
        for (value, count, clicks) in shares {
            let more = rest.filter(|r| r.0 == *value).map_or((0, 0), |r| r.1);
            let (count, clicks) = (f64::from(count + more.0), f64::from(clicks + more.1));
            let (share, ctr) = (count / total, clicks / count);
            if share * rows < 400.0 {
                continue;
            }
            let (found, found_clicks) = tally[*value];
            let spread = (share * (1.0 - share) / rows).sqrt();
            assert!((found / rows - share).abs() < 5.0 * spread + 1e-6, "column {column} {value}: {found}");
            let spread = (ctr * (1.0 - ctr) / found).sqrt();
            let off = (found_clicks / found - ctr).abs();
            assert!(off < 5.0 * spread + 0.02 * ctr, "column {column} {value}: {} {ctr}", found_clicks / found);
        }
    }
    let clicks: f64 = tally(&csv, 1)["1"].0;
    assert!((clicks / rows - 0.1698).abs() < 0.004, "{clicks}");
}

#[test]
fn an_existing_file_is_left_alone_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rows.csv.gz");
    let mut args = Args { rows: 10, seed: 1, out: out.clone(), hours: 240, force: false };
    run(&args).unwrap();
    let error = run(&args).unwrap_err();
    assert_eq!(crate::exit::code_of(&error), 2, "{error:#}");
    args.force = true;
    run(&args).unwrap();
    let mut text = String::new();
    io::Read::read_to_string(&mut flate2::read::GzDecoder::new(File::open(&out).unwrap()), &mut text).unwrap();
    assert_eq!(text, generate(10, 1, 240));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
