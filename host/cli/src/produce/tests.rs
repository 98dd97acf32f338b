//! From files to the real embedded log, against a recount of what should be there; interrupted, resumed, damaged.

mod files;
mod resume;

use clickmill_broker::partitioner::partition_for;
use clickmill_broker::{Broker, TopicPartition};
use clickmill_pipeline::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW};
use clickmill_schemas::envelope::SourcePosition;
use clickmill_schemas::record::Records;
use clickmill_schemas::{Offset, PartitionId};
use serde_json::{Value, json};

use super::hour::{EpochHour, HOUR_MS};
use super::input::columns::{COLUMNS, IS_INTEGER};
use super::*;

/// A data directory.
struct Bed {
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn place(&self) -> Place {
        let data_dir = self.dir.path().join("data");
        Place {
            log_dir: data_dir.join("log"),
            data_dir,
            log: LogOptions::default(),
            topics: TopicsOptions::default(),
            token: None,
            max_line_bytes: 4 << 20,
        }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn produce(&self, args: &Args) -> anyhow::Result<Produced> {
        let produced = produce(args, &self.place());
        assert!(!self.place().data_dir.join("tmp").read_dir().is_ok_and(|mut d| d.next().is_some()), "left-over files");
        produced
    }

    fn log(&self) -> EmbeddedLog {
        EmbeddedLog::open_read_only(&self.place().log_dir).unwrap()
    }

    /// The values of each partition of a topic.
    fn values(&self, topic: &str) -> Vec<Vec<Vec<u8>>> {
        values(&self.log(), topic)
    }

    fn events(&self) -> Vec<Vec<Vec<u8>>> {
        self.values(AD_EVENTS_RAW)
    }

    fn dead_letters(&self) -> Vec<Value> {
        let values = self.values(AD_EVENTS_ERROR).concat();
        values.iter().map(|v| serde_json::from_slice(v).unwrap()).collect()
    }
}

/// Reads topics whole, and checks that positions stand in the last record of every batch and nowhere else.
fn values(broker: &dyn Broker, topic: &str) -> Vec<Vec<Vec<u8>>> {
    let Some(info) = broker.topic(topic).unwrap() else { return Vec::new() };
    let read = |partition| {
        let at = TopicPartition::new(topic, PartitionId(partition));
        let end = broker.ends(&at).unwrap().end;
        let (mut from, mut values) = (Offset(0), Vec::new());
        while from < end {
            for batch in broker.fetch(&at, from, 1 << 20, Duration::ZERO).unwrap() {
                let set = batch.records().unwrap();
                let records: Vec<_> = Records::new(&set).unwrap().map(Result::unwrap).collect();
                let (last, others) = records.split_last().unwrap();
                assert!(others.iter().all(|r| r.key.is_none()));
                assert!(last.key.and_then(SourcePosition::decode).is_some());
                values.extend(records.iter().map(|r| r.value.to_vec()));
                from = batch.next_offset();
            }
        }
        values
    };
    (0..info.spec.partitions).map(read).collect()
}

fn args(file: &Path) -> Args {
    Args {
        files: vec![file.to_owned()],
        format: None,
        speed: Speed::Max,
        rate: None,
        resume: false,
        again: false,
        max_line_bytes: None,
    }
}

/// A row with this id in this hour.
fn row(id: &str, hour: &str) -> String {
    format!("{id},0,{hour},1005,0,s,sd,sc,a,ad,ac,d,ip,m,1,0,1,320,50,1,0,35,-1,79\n")
}

fn csv(rows: impl IntoIterator<Item = String>) -> Vec<u8> {
    let mut text = crate::generate::HEADER.to_owned();
    text.extend(rows);
    text.into_bytes()
}

/// The events of a CSV without quotes, by partition: sorted, dated and written the obvious way.
fn recount(csv: &[u8], partitions: u32) -> Vec<Vec<Value>> {
    let text = String::from_utf8(csv.to_vec()).unwrap();
    let mut rows: Vec<Vec<&str>> =
        text.lines().skip(1).map(|l| l.split(',').collect()).filter(|r: &Vec<_>| r.len() == 24).collect();
    let hour_of = |row: &[&str]| EpochHour::parse(row[2].as_bytes());
    rows.sort_by_key(|row| hour_of(row).map_or(u32::MAX, |h| h.0));
    let mut events = vec![Vec::new(); partitions as usize];
    for (i, row) in rows.iter().enumerate() {
        let mut event = serde_json::Map::new();
        for (column, field) in COLUMNS.iter().zip(row).enumerate().map(|(c, (name, field))| ((c, name), field)) {
            let number = field.parse::<i64>().ok().filter(|n| IS_INTEGER[column.0] && n.to_string() == **field);
            event.insert((*column.1).to_owned(), number.map_or_else(|| json!(field), |n| json!(n)));
        }
        event.insert("ts".into(), json!(0));
        if let Some(hour) = hour_of(row) {
            let same: Vec<usize> = (0..rows.len()).filter(|other| hour_of(&rows[*other]) == Some(hour)).collect();
            let index = same.iter().position(|other| *other == i).unwrap() as u64;
            event.insert("ts".into(), json!(u64::from(hour.0) * HOUR_MS + index * HOUR_MS / same.len() as u64));
        }
        events[partition_for(row[0].as_bytes(), partitions).0 as usize].push(Value::Object(event));
    }
    events
}

fn parsed(values: &[Vec<Vec<u8>>]) -> Vec<Vec<Value>> {
    values.iter().map(|p| p.iter().map(|v| serde_json::from_slice(v).unwrap()).collect()).collect()
}
