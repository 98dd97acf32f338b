//! A .csv.gz into the topic on all cores, against gunzip + csv alone on one.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, ensure};
use flate2::read::MultiGzDecoder;

use super::{Bench, Goal, ROUNDS, Report, events, forget, median, timed};

pub fn measure(bench: &Bench, rows: u64, report: &mut Report) -> Result<()> {
    let file = bench.rows(rows, 240)?;
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (took, read) = timed(|| read_alone(&file))?;
        ensure!(read == rows, "{read} of {rows} rows were read");
        floor.push(took);
        let config = bench.config(&format!("produce-{round}"));
        ours.push(timed(|| events::fill(&config, &file))?.0);
        forget(&config.data_dir)?;
    }
    let (floor, ours) = (rows as f64 / median(floor), rows as f64 / median(ours));
    report.add("produce: gunzip + csv alone, one core", floor, "rows/s", Goal::None);
    report.add("produce: .csv.gz into the topic, all cores", ours, "rows/s", Goal::None);
    report.add("produce: against gunzip + csv", ours / floor, "×", Goal::AtLeast(0.4));
    Ok(())
}

fn read_alone(file: &Path) -> Result<u64> {
    let mut reader = csv::Reader::from_reader(MultiGzDecoder::new(File::open(file)?));
    let (mut record, mut rows) = (csv::ByteRecord::new(), 0);
    while reader.read_byte_record(&mut record)? {
        rows += 1;
    }
    Ok(rows)
}
