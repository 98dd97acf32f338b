//! What files may be: sorted or not, damaged, compressed, cut, lines of JSON, the wrong ones.

use std::io::Write as _;

use proptest::prelude::*;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn the_topic_has_what_a_recount_says(
        rows in proptest::collection::vec(
            ("[0-9]{1,20}", prop_oneof![8 => "141021(0[0-9]|1[0-9])", 1 => "[0-9]{6,9}"], "-?[0-9]{1,4}", "[a-f0-9.]{0,9}"),
            0..150,
        ),
        sorted: bool,
    ) {
        let mut rows = rows;
        if sorted {
            rows.sort_by(|a, b| a.1.cmp(&b.1));
        }
        let bytes = csv(rows.iter().map(|(id, hour, c14, site)| {
            format!("{id},1,{hour},1005,0,{site},sd,sc,a,ad,ac,d,ip,m,1,0,{c14},320,50,1,0,35,-1,79\n")
        }));
        let bed = Bed::new();
        let produced = bed.produce(&args(&bed.file("rows.csv", &bytes))).unwrap();
        let expected = recount(&bytes, 3);
        prop_assert_eq!(&parsed(&bed.events()), &expected);
        let sent: Vec<u64> = expected.iter().map(|p| p.len() as u64).collect();
        prop_assert_eq!(produced.summary.sent_by_partition, sent);
    }
}

#[test]
fn real_rows_that_are_not_in_hour_order_are_sent_in_order_of_event_time() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/avazu_20k.csv");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let bed = Bed::new();
    let produced = bed.produce(&args(&path)).unwrap();
    assert_eq!((produced.summary.rows_sent, produced.summary.error_lines), (19_994, 0));
    let events = parsed(&bed.events());
    let mut by_hour = std::collections::BTreeMap::<String, Vec<u64>>::new();
    for partition in &events {
        let times: Vec<u64> = partition.iter().map(|e| e["ts"].as_u64().unwrap()).collect();
        assert!(times.is_sorted());
        for event in partition {
            by_hour.entry(event["hour"].as_str().unwrap().to_owned()).or_default().push(event["ts"].as_u64().unwrap());
        }
    }
    assert_eq!(by_hour.len(), 240);
    for (hour, mut times) in by_hour {
        times.sort_unstable();
        let start = EpochHour::parse(hour.as_bytes()).unwrap().start_ms();
        let n = times.len() as u64;
        let expected: Vec<u64> = (0..n).map(|i| start + i * HOUR_MS / n).collect();
        assert_eq!(times, expected, "{hour}");
    }
}

#[test]
fn the_rows_around_a_damaged_line_are_sent_and_the_line_is_kept() {
    let bed = Bed::new();
    let mut bytes = csv([row("1", "14102100"), "only,three,\"fields\n".to_owned(), row("2", "14102100")]);
    bytes.extend_from_slice(b"\n\xff\x00,2\r\n");
    bytes.extend(row("3", "99999999").bytes());
    bytes.extend(vec![b'x'; 3_000]);
    let path = bed.file("rows.csv", &bytes);
    let produced = bed.produce(&Args { max_line_bytes: Some(2_000), ..args(&path) }).unwrap();
    let summary = produced.summary;
    assert_eq!((summary.rows_sent, summary.rows_without_hour, summary.error_lines, summary.blank_lines), (3, 1, 3, 1));
    let letters = bed.dead_letters();
    let of = |key: &str| letters.iter().map(|l| l[key].clone()).collect::<Vec<_>>();
    assert_eq!(
        of("raw_payload"),
        [
            json!("only,three,\"fields"),
            json!("/wAsMg0="),
            json!("x".repeat(2_000)[..2_000].to_owned() + &"x".repeat(1_000))
        ]
    );
    assert_eq!(of("raw_encoding"), ["utf8", "base64", "utf8"]);
    assert_eq!(of("rule"), ["csv_columns", "csv_columns", "line_too_long"]);
    assert_eq!(of("error_type"), ["parsing"; 3]);
    let name = path.display().to_string();
    let source = letters[0]["origin"]["source"].as_str().unwrap();
    assert_eq!(source.len(), 16, "{source}");
    assert_eq!(of("origin"), [3, 6, 8].map(|line| json!({"file": name, "line": line, "source": source})));
    let last: Vec<Value> = parsed(&bed.events()).concat().into_iter().filter(|e| e["ts"] == 0).collect();
    assert_eq!(last[0]["id"], "3");
}

#[test]
fn everything_before_the_cut_of_a_gzip_file_is_sent_and_the_cut_is_named() {
    let bed = Bed::new();
    let rows: Vec<String> =
        (0..20_000u64).map(|i| row(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string(), "14102100")).collect();
    let gz = gzip(&csv(rows.clone()));
    let path = bed.file("rows.csv.gz", &gz[..gz.len() / 2]);
    let produced = bed.produce(&args(&path)).unwrap();
    let sent = produced.summary.rows_sent as usize;
    assert!(sent > 1_000 && sent < 19_000, "{sent}");
    assert_eq!(parsed(&bed.events()), fast_recount(&csv(rows[..sent].to_vec())));
    let cut = produced.cut.unwrap();
    assert!(cut.starts_with(&format!("{} cannot be read past line {}, byte ", path.display(), sent + 2)), "{cut}");
    assert!(
        run(&Args { resume: true, ..args(&path) }, &bed.place(), false).is_err_and(|e| crate::exit::code_of(&e) == 1)
    );
}

#[test]
fn a_whole_file_in_the_place_of_a_cut_one_is_not_sent_on_top_of_it() {
    let bed = Bed::new();
    let gz = gzip(&csv((0..20_000u64).map(|i| row(&i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string(), "14102100"))));
    let path = bed.file("rows.csv.gz", &gz[..gz.len() / 2]);
    let sent = bed.produce(&args(&path)).unwrap().summary.rows_sent as usize;
    bed.file("rows.csv.gz", &gz);
    let elsewhere = bed.file("copy.csv.gz", &gz);
    for (path, resume) in [(&path, true), (&path, false), (&elsewhere, true)] {
        let error = bed.produce(&Args { resume, ..args(path) }).unwrap_err();
        assert_eq!(crate::exit::code_of(&error), 2, "{error:#}");
        assert!(error.to_string().contains("up to where it was damaged") && error.to_string().contains("--again"));
    }
    assert_eq!(bed.events().concat().len(), sent);
    assert_eq!(bed.produce(&Args { again: true, ..args(&path) }).unwrap().summary.rows_sent, 20_000);
}

#[test]
fn nothing_of_a_gzip_file_with_a_flipped_byte_is_sent_and_its_mended_copy_is_new() {
    for name in ["rows.csv.gz", "rows.jsonl.gz"] {
        let bed = Bed::new();
        let sound = bed.file("sound.csv", &csv([row("0", "14102100")]));
        let mut gz = gzip(&csv((0..20_000u64).map(|i| row(&i.to_string(), "14102101"))));
        let middle = gz.len() / 2;
        gz[middle] ^= 0x10;
        let path = bed.file(name, &gz);
        let produced = bed.produce(&args(&path)).unwrap();
        assert_eq!(produced.summary.rows_sent, 0);
        let cut = produced.cut.unwrap();
        assert!(cut.contains(&format!("{name} is damaged, which shows at line ")), "{cut}");
        if name.ends_with("csv.gz") {
            // The files before it are as they were written.
            let before = Args { files: vec![sound.clone(), path.clone()], ..args(&path) };
            assert_eq!(bed.produce(&before).unwrap().summary.rows_sent, 1);
        }
        gz[middle] ^= 0x10;
        bed.file(name, &gz);
        let lines = bed.produce(&Args { resume: true, ..args(&path) }).unwrap().summary.rows_sent;
        assert!(lines == 20_000 || lines == 20_001, "{lines}");
    }
}

/// As `recount`, for rows of a single hour.
fn fast_recount(csv: &[u8]) -> Vec<Vec<Value>> {
    let n = csv.iter().filter(|b| **b == b'\n').count() as u64 - 1;
    let one = csv.split(|b| *b == b'\n').take(1);
    let mut events = vec![Vec::new(); 3];
    for (i, line) in csv.split(|b| *b == b'\n').skip(1).take(n as usize).enumerate() {
        let single = [one.clone().next().unwrap(), line].join(&b'\n');
        let (partition, mut event) =
            recount(&single, 3).into_iter().enumerate().find_map(|(p, mut e)| e.pop().map(|e| (p, e))).unwrap();
        let start = event["ts"].as_u64().unwrap();
        event["ts"] = json!(start + i as u64 * HOUR_MS / n);
        events[partition].push(event);
    }
    events
}

#[test]
fn a_file_with_other_columns_is_refused_before_anything_is_sent() {
    let bed = Bed::new();
    let good = bed.file("good.csv", &csv([row("1", "14102100")]));
    let test_set = String::from_utf8(csv([])).unwrap().replace("click,", "");
    let other = bed.file("other.csv", test_set.as_bytes());
    let error = bed.produce(&Args { files: vec![good.clone(), other], ..args(&good) }).unwrap_err();
    assert_eq!(crate::exit::code_of(&error), 2);
    assert!(error.to_string().ends_with("other.csv: not Avazu's 24 columns: missing: click"), "{error}");
    assert!(!bed.place().log_dir.exists());
    let missing = bed.produce(&args(Path::new("/not/there.csv"))).unwrap_err();
    assert_eq!(crate::exit::code_of(&missing), 2);
    let lines = bed.file("x.jsonl", b"{}");
    let mixed = bed.produce(&Args { files: vec![good.clone(), lines], ..args(&good) }).unwrap_err();
    assert_eq!(crate::exit::code_of(&mixed), 2);
}

#[test]
fn several_files_are_one_source_and_share_their_hours() {
    let bed = Bed::new();
    let (a, b) = (csv([row("1", "14102101"), row("2", "14102100")]), csv([row("3", "14102101")]));
    let files = vec![bed.file("a.csv", &a), bed.file("b.csv.gz", &gzip(&b))];
    bed.produce(&Args { files, ..args(Path::new("")) }).unwrap();
    let joined = csv([row("1", "14102101"), row("2", "14102100"), row("3", "14102101")]);
    assert_eq!(parsed(&bed.events()), recount(&joined, 3));
}

#[test]
fn json_lines_are_sent_as_they_are() {
    let bed = Bed::new();
    let long = format!("{{\"id\":\"long\",\"x\":\"{}\"}}", "y".repeat(2_000));
    let lines: [&[u8]; 6] = [
        b"{\"id\":\"1\",\"ts\":5}",
        b"{ \"ts\" : 4, \"id\" : \"a\\u0062\" } ",
        b"not json at all",
        b"\xff\xfe",
        b"{\"id\":7}",
        long.as_bytes(),
    ];
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    bytes.extend_from_slice(&lines[..2].join(&b'\n'));
    bytes.extend_from_slice(b"\r\n\n  \r\n");
    bytes.extend_from_slice(&lines[2..].join(&b'\n'));
    let path = bed.file("events.jsonl.gz", &gzip(&bytes));
    let produced = bed.produce(&Args { max_line_bytes: Some(1_500), ..args(&path) }).unwrap();
    let summary = &produced.summary;
    assert_eq!((summary.rows_sent, summary.error_lines, summary.blank_lines), (5, 1, 2));
    let mut expected = vec![Vec::new(); 3];
    let keys: [&[u8]; 5] = [b"1", b"ab", lines[2], lines[3], lines[4]];
    for (key, line) in keys.iter().zip(&lines) {
        expected[partition_for(key, 3).0 as usize].push(line.to_vec());
    }
    assert_eq!(bed.events(), expected);
    let letters = bed.dead_letters();
    assert_eq!((&letters[0]["rule"], &letters[0]["origin"]["line"]), (&json!("line_too_long"), &json!(8)));
}

#[test]
fn a_rate_is_kept_and_rows_do_not_wait_for_a_full_batch() {
    let bed = Bed::new();
    let path = bed.file("rows.csv", &csv((0..60).map(|i| row(&i.to_string(), "14102100"))));
    let begun = Instant::now();
    bed.produce(&Args { rate: Some(200), ..args(&path) }).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    let log = bed.log();
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(0));
    let batches = log.fetch(&at, Offset(0), 1 << 20, Duration::ZERO).unwrap();
    assert!(batches.len() > 2, "{} batches for 0.3 s", batches.len());
}
