//! Files as they come: damaged, quoted, cut, with long lines; and any bytes at all against the same bytes.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::chunks;
use super::*;

const HEADER: &str = "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,\
device_id,device_ip,device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n";

/// What was read, as text: `row <fields>`, `bad <file>:<line>@<byte> <fault> <raw>`, `cut <file>:<line>@<byte>`.
fn read(files: &[&[u8]], max_line_bytes: usize) -> Result<Vec<String>, String> {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = Vec::new();
    for (i, bytes) in files.iter().enumerate() {
        let path: PathBuf = dir.path().join(format!("{i}.csv"));
        std::fs::write(&path, bytes).unwrap();
        sources.push(Source::file(&path));
    }
    std::thread::scope(|scope| {
        let (chunks, handle) = chunks::read(scope, sources.clone(), max_line_bytes, Arc::default());
        let mut rows = RowReader::new(chunks, &sources, max_line_bytes);
        let mut seen = Vec::new();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        loop {
            match rows.next().map_err(|e| e.to_string())? {
                None => break,
                Some(Item::Row(row)) => {
                    let fields: Vec<String> = (0..WIDTH).map(|c| text(row.field(c))).collect();
                    seen.push(format!("row {}", fields.join("|")));
                }
                Some(Item::Bad { place, raw, fault }) => {
                    seen.push(format!("bad {}:{}@{} {fault:?} {}", place.file, place.line, place.byte, text(raw)));
                }
                Some(Item::Cut { place, .. }) => seen.push(format!("cut {}:{}@{}", place.file, place.line, place.byte)),
            }
        }
        if rows.blank_lines > 0 {
            seen.push(format!("blank {}", rows.blank_lines));
        }
        drop(rows);
        handle.join().unwrap().unwrap();
        Ok(seen)
    })
}

fn row(first: &str) -> String {
    format!("{first},1{}", ",2".repeat(22))
}

fn seen_row(first: &str) -> String {
    format!("row {first}|1{}", "|2".repeat(22))
}

fn file(lines: &[&str]) -> Vec<u8> {
    [HEADER, &lines.join("\n")].concat().into_bytes()
}

#[test]
fn bad_lines_are_named_and_the_rows_around_them_are_read() {
    let bytes = file(&[&row("a"), "x,y", "", &row("b"), "\"open,z", &row("c"), &format!("{},25", row("d")), &row("e")]);
    let at = |n: usize| HEADER.len() + n;
    assert_eq!(
        read(&[&bytes], 1000).unwrap(),
        [
            seen_row("a"),
            format!("bad 0:3@{} Columns(2) x,y", at(48)),
            seen_row("b"),
            format!("bad 0:6@{} Quotes \"open,z", at(53 + 48)),
            seen_row("c"),
            format!("bad 0:8@{} Columns(25) {},25", at(61 + 48 + 48), row("d")),
            seen_row("e"),
            "blank 1".to_owned(),
        ]
    );
}

#[test]
fn quoted_fields_may_hold_commas_quotes_and_line_ends() {
    let crlf = file(&[&row("\"a,\"\"b\r\nc\""), &row("d\"e"), "\"f\" g,1", ""]).to_vec();
    let seen = read(&[&crlf], 1000).unwrap();
    assert_eq!(seen[0], seen_row("a,\"b\r\nc"));
    assert_eq!(seen[1], seen_row("d\"e"));
    assert!(seen[2].starts_with("bad 0:5@") && seen[2].contains("Quotes \"f\" g,1"), "{}", seen[2]);
    let windows = String::from_utf8(file(&[&row("a"), &row("\"b\"")])).unwrap().replace('\n', "\r\n");
    assert_eq!(read(&[windows.as_bytes()], 1000).unwrap(), [seen_row("a"), seen_row("b")]);
}

#[test]
fn a_stray_quote_costs_its_own_line_only() {
    let mut lines = vec![row("a"), format!("\"{}", row("b"))];
    lines.extend((0..30_000).map(|i| row(&i.to_string())));
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let seen = read(&[&file(&lines)], 1 << 20).unwrap();
    assert!(seen[1].starts_with("bad 0:3@"), "{}", seen[1]);
    assert_eq!(seen[2], seen_row("0"));
    assert_eq!(seen.len(), 30_002);
}

#[test]
fn long_lines_are_kept_in_part_wherever_they_lie() {
    for long in [2_000, 300_000, 1_000_000] {
        let line = "x".repeat(long);
        let bytes = file(&[&row("a"), &line, &row("b")]);
        let seen = read(&[&bytes], 1_000).unwrap();
        assert_eq!(seen[0], seen_row("a"));
        assert!(seen[1].starts_with(&format!("bad 0:3@{} TooLong({long}) xxx", HEADER.len() + 48)), "{long}");
        assert!(seen[1].len() < KEPT_OF_LONG_LINE + 100);
        assert_eq!(seen[2], seen_row("b"));
        assert_eq!(seen.len(), 3);
        let last = file(&[&row("a"), &line]);
        assert!(read(&[&last], 1_000).unwrap()[1].contains(&format!("TooLong({long})")));
    }
}

#[test]
fn headers_are_asked_of_every_file() {
    let good = file(&[&row("a")]);
    let reversed: Vec<&str> = HEADER.trim_end().split(',').rev().collect();
    let reversed =
        format!("\u{feff}{}\n{}", reversed.join(","), row("z").split(',').rev().collect::<Vec<_>>().join(","));
    assert_eq!(
        read(&[&good, reversed.as_bytes(), &good], 1000).unwrap(),
        [seen_row("a"), seen_row("z"), seen_row("a")]
    );
    assert!(read(&[&good, b"a,b\n"], 1000).unwrap_err().contains("1.csv: not Avazu's 24 columns"));
    assert!(read(&[b"", &good], 1000).unwrap_err().contains("0.csv has no header"));
    assert!(read(&[&good, b"\n\n"], 1000).unwrap_err().contains("1.csv has no header"));
}

#[test]
fn a_gzip_file_that_was_cut_gives_every_whole_line_and_says_where_it_ends() {
    let lines: Vec<String> = (0..50_000u32).map(|i| row(&(i.wrapping_mul(2_654_435_761)).to_string())).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let plain = file(&lines);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let gz = gz.finish().unwrap();
    let whole = read(&[&gz], 1000).unwrap();
    assert_eq!(whole.len(), 50_000);
    for keep in [gz.len() - 1, gz.len() - 9, gz.len() / 2, 2_000] {
        let seen = read(&[&gz[..keep], &gz], 1000).unwrap();
        let (cut, rows) = seen.split_last().unwrap();
        assert_eq!(rows, &whole[..rows.len()]);
        let text = plain.iter().filter(|b| **b == b'\n').count();
        let line = rows.len() + 2;
        assert!(cut.starts_with(&format!("cut 0:{line}@")) || rows.len() == 49_999, "{cut} of {text}");
    }
}

proptest! {
    /// Without quotes, every line is one item, whatever its bytes.
    #[test]
    fn any_bytes_without_quotes_are_read_line_by_line(
        lines in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b','), 0x20u8..0x22, 0x23u8.., 0u8..9], 1..60), 0..40),
        limit in 10usize..80,
    ) {
        let mut bytes = HEADER.as_bytes().to_vec();
        bytes.extend_from_slice(&lines.join(&b'\n'));
        let seen = read(&[&bytes], limit).unwrap();
        prop_assert_eq!(seen.len(), lines.len());
        for (i, (line, seen)) in lines.iter().zip(&seen).enumerate() {
            let columns = line.split(|b| *b == b',').count();
            let place = format!("bad 0:{}@", i + 2);
            if line.len() > limit {
                prop_assert!(seen.starts_with(&place) && seen.contains(&format!(" TooLong({}) ", line.len())), "{seen}");
            } else if columns == WIDTH {
                prop_assert!(seen.starts_with("row "), "{seen}");
            } else {
                prop_assert!(seen.starts_with(&place) && seen.contains(&format!(" Columns({columns}) ")), "{seen}");
            }
        }
    }
}
