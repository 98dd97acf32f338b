//! The events that are measured: what `produce` writes, and the same in other forms of JSON.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clickmill_broker::{Broker, EmbeddedLog, TopicPartition};
use clickmill_engine::MemoryBatch;
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_schemas::record::Records;
use clickmill_schemas::{Offset, PartitionId};
use serde_json::Value;

use super::Bench;
use crate::produce;
use crate::stack::place;

/// Records of a batch, about what `produce` makes.
const BATCH: usize = 600;

/// The lines of one partition as `produce` writes them into the topic, of rows of so many hours.
pub fn produced(bench: &Bench, rows: u64, hours: u16) -> Result<Vec<Vec<u8>>> {
    let mut config = bench.config("events");
    config.broker.topics.ad_events_raw.partitions = 1;
    let file = bench.rows(rows, hours)?;
    fill(&config, &file)?;
    let log = EmbeddedLog::open(&place::log_dir(&config), config.broker_options())?;
    let at = TopicPartition::new(AD_EVENTS_RAW, PartitionId(0));
    let end = log.ends(&at)?.end;
    let (mut next, mut lines) = (Offset(0), Vec::new());
    while next < end {
        for batch in log.fetch(&at, next, 4 << 20, Duration::ZERO)? {
            for record in Records::new(&batch.records()?)? {
                lines.push(record?.value.to_vec());
            }
            next = batch.next_offset();
        }
    }
    drop(log);
    super::forget(&config.data_dir)?;
    Ok(lines)
}

/// Produces a file into a data directory that no host has open.
pub fn fill(config: &crate::config::Config, file: &std::path::Path) -> Result<()> {
    let args = produce::Args {
        files: vec![file.to_owned()],
        format: None,
        speed: produce::Speed::Max,
        rate: None,
        resume: false,
        again: false,
        max_line_bytes: None,
    };
    let produced = produce::produce(&args, &place::of(config))?;
    match produced.cut {
        Some(cut) => bail!(cut),
        None => Ok(()),
    }
}

/// The same events with their keys in another order in each line, and white space as Python's json.dumps has it.
pub fn any_order(lines: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    let mut state = 1u64;
    rewritten(lines, |fields| {
        for i in (1..fields.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            fields.swap(i, (state >> 33) as usize % (i + 1));
        }
        let fields: Vec<_> = fields.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
        format!("{{{}}}", fields.join(", "))
    })
}

/// The same events with escapes and non-ASCII text in strings that no window depends on.
pub fn escaped(lines: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    rewritten(lines, |fields| {
        let fields: Vec<_> = fields
            .iter()
            .map(|(k, v)| match k.as_str() {
                "site_domain" => format!("\"{k}\":\"caf\\u00e9 \\\"{}\"", v.as_str().unwrap_or_default()),
                "app_domain" => format!("\"{k}\":\"日本 {}\"", v.as_str().unwrap_or_default()),
                _ => format!("\"{k}\":{v}"),
            })
            .collect();
        format!("{{{}}}", fields.join(","))
    })
}

fn rewritten(lines: &[Vec<u8>], mut write: impl FnMut(&mut Vec<(String, Value)>) -> String) -> Result<Vec<Vec<u8>>> {
    let one = |line: &Vec<u8>| {
        let event: serde_json::Map<String, Value> = serde_json::from_slice(line).context("a produced line")?;
        Ok(write(&mut event.into_iter().collect()).into_bytes())
    };
    lines.iter().map(one).collect()
}

/// Batches of these lines.
pub fn batches(lines: &[Vec<u8>]) -> Vec<MemoryBatch> {
    let mut base = Offset(0);
    lines
        .chunks(BATCH)
        .map(|chunk| {
            let batch = MemoryBatch::of(base, chunk.iter().map(|line| (None, line.as_slice(), 0)));
            base = base.plus(chunk.len() as u64);
            batch
        })
        .collect()
}
