//! `clickmill topic read --through`: what a module makes of a topic's records, and what became of them all.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clickmill_engine::{Chain, Engine, PassedRecord, StageSpec};
use clickmill_pipeline::through::{Failed, Given, Tally, Through};
use clickmill_pipeline::views::records::{Content, RecordView};
use clickmill_schemas::PartitionId;

use crate::config::Config;
use crate::output::{counted, printable, say};
use crate::smartmodule::module_file;
use crate::stack;

/// Failures that are told one by one.
const FAILURES_SHOWN: u64 = 5;

#[derive(Debug, Default, clap::Args)]
pub struct ThroughArgs {
    /// Print what this SmartModule makes of the records, and say at the end what became of them
    #[arg(long, value_name = "FILE.wasm")]
    through: Option<PathBuf>,
    /// Set a parameter of the module
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = module_file::pair, requires = "through")]
    params: Vec<(String, String)>,
    /// Set a parameter to a file's content
    #[arg(long = "param-file", value_name = "NAME=FILE", value_parser = module_file::pair, requires = "through")]
    param_files: Vec<(String, String)>,
}

/// Puts records through a module, each partition through an instance of its own.
pub struct Reader {
    engine: Engine,
    spec: StageSpec,
    partitions: BTreeMap<PartitionId, Through>,
    failures: u64,
}

impl ThroughArgs {
    /// The module, ready to read through; none where none was named.
    pub fn reader(&self, config: &Config) -> Result<Option<Reader>> {
        let Some(file) = &self.through else { return Ok(None) };
        let wasm = module_file::read(file)?;
        let mut params: BTreeMap<String, String> = self.params.iter().cloned().collect();
        params.extend(module_file::params_of_files(&self.param_files)?);
        let engine = stack::engine(config, &config.data_dir)?;
        let refused = || format!("{} is refused", file.display());
        let module = engine.compile(&wasm).with_context(refused)?;
        let name = file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let spec = StageSpec { name, module, params, limits: config.limits(), lookback: None };
        // Tried at once: a parameter that does not fit is refused before anything is read.
        Chain::new(&engine, std::slice::from_ref(&spec)).with_context(refused)?;
        Ok(Some(Reader { engine, spec, partitions: BTreeMap::new(), failures: 0 }))
    }
}

impl Reader {
    /// What comes out of these records of a partition, which are the next ones.
    pub fn put(&mut self, partition: PartitionId, records: &[RecordView]) -> Result<Vec<RecordView>> {
        let given = records.iter().map(given).collect::<Option<Vec<_>>>();
        let given = given.with_context(|| format!("partition {partition}: a record came without its bytes"))?;
        let (mut passed, mut failed) = (Vec::new(), Vec::new());
        let through = match self.partitions.entry(partition) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(new) => {
                let chain = Chain::new(&self.engine, std::slice::from_ref(&self.spec))?;
                new.insert(Through::new(chain, partition))
            }
        };
        through.run(&given, &mut passed, &mut failed).with_context(|| format!("partition {partition}"))?;
        for Failed { partition, offset, message } in failed {
            self.failures += 1;
            if self.failures <= FAILURES_SHOWN {
                say(format_args!("{partition}/{offset}  the module failed: {}", printable(&message)));
            }
        }
        Ok(passed.into_iter().map(|record| view(partition, record)).collect())
    }

    /// Says what became of the records.
    pub fn summarize(&self) {
        let mut all = Tally::default();
        self.partitions.values().for_each(|through| all.add(&through.tally));
        say(text(&all));
    }
}

fn given(record: &RecordView) -> Option<Given> {
    Some(Given {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: match &record.key {
            Some(key) => Some(key.bytes()?),
            None => None,
        },
        value: record.value.bytes()?,
    })
}

fn view(partition: PartitionId, record: PassedRecord) -> RecordView {
    RecordView {
        partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref().map(Content::of_key),
        value: Content::of(&record.value),
    }
}

fn text(tally: &Tally) -> String {
    let Tally { read, passed, rejected, late, dropped, failed } = tally;
    let mut text = format!("{} read: {passed} passed", counted(*read, "record"));
    text.push_str(&format!(", {} rejected", rejected.values().sum::<u64>()));
    if !rejected.is_empty() {
        let rules: Vec<_> = rejected.iter().map(|(rule, records)| format!("{} {records}", printable(rule))).collect();
        text.push_str(&format!(" ({})", rules.join(", ")));
    }
    if *late > 0 {
        text.push_str(&format!(", {late} late"));
    }
    text.push_str(&format!(", {dropped} dropped, {failed} failed"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_each_rule_and_adds_up() {
        let rejected = BTreeMap::from([("json".to_owned(), 2), ("ts\u{1b}".to_owned(), 1)]);
        let tally = Tally { read: 12_000, passed: 11_990, rejected, late: 0, dropped: 5, failed: 2 };
        assert_eq!(
            text(&tally),
            "12,000 records read: 11990 passed, 3 rejected (json 2, ts\\u{1b} 1), 5 dropped, 2 failed"
        );
    }
}
