//! A server over a real log in a folder of its own, and a plain HTTP client on a socket.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod busy;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clickmill_broker::{Broker, EmbeddedLog, LogOptions, TopicPartition};
use clickmill_pipeline::checkpoint::OutputEnds;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::reprocess::Reprocessing;
use clickmill_pipeline::savepoint::{Manifest, SavedPartition, SavepointError};
use clickmill_pipeline::topics::{self, CTR_WINDOWS, TopicsOptions};
use clickmill_pipeline::views::reports::{Cells, Scope};
use clickmill_schemas::output::{Body, Commit, Ledger, Output, Stamp};
use clickmill_schemas::partial::{self, Metrics, Owner, Version};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{DeploymentId, Epoch, Generation, ModuleDigest, Offset, PartitionId, RunId};
use clickmill_server::{ConnectorChange, ConnectorRefusal, Host, Hours, HoursAnswer, Options, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const TOKEN: &str = "0123456789abcdef0123";

/// The database of a [`FakeHost`].
#[derive(Clone, Default)]
pub enum FakeHours {
    #[default]
    None,
    Stopped,
    Fails,
    Silent,
    Has(Vec<Cells>),
}

impl Hours for FakeHours {
    fn cells<'a>(&'a self, _: &'a Scope) -> HoursAnswer<'a> {
        Box::pin(async move {
            match self {
                Self::Has(cells) => Ok(cells.clone()),
                Self::Silent => std::future::pending().await,
                _ => Err("the connection was cut".to_owned()),
            }
        })
    }
}

pub struct FakeHost {
    pub hours: Mutex<FakeHours>,
    pub ready: AtomicBool,
    pub registry: prometheus::Registry,
}

impl Host for FakeHost {
    fn deployer(&self) -> Option<Arc<Deployer>> {
        None
    }

    fn sinks(&self) -> Vec<Value> {
        vec![json!({"name": "postgres"})]
    }

    fn connectors(&self) -> Vec<Value> {
        vec![json!({"name": "postgres", "type": "postgres-sink", "wanted": true, "sinks": []})]
    }

    fn change_connector(&self, name: &str, _: ConnectorChange) -> Result<(), ConnectorRefusal> {
        match name {
            "postgres" => Ok(()),
            _ => Err(ConnectorRefusal::Unknown(format!("there is no connector {name}"))),
        }
    }

    fn apply_connectors(&self) -> Result<Value, ConnectorRefusal> {
        Ok(json!({"started": [], "restarted": [], "removed": [], "unchanged": ["postgres"], "stopped": []}))
    }

    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) { Ok(()) } else { Err("partition 1 has no worker".to_owned()) }
    }

    fn dlq(&self) -> Option<Arc<clickmill_pipeline::dlq::Dlq>> {
        None
    }

    fn reprocessing(&self) -> Option<Arc<Reprocessing>> {
        None
    }

    fn save(&self, name: &str) -> Result<Manifest, SavepointError> {
        Ok(Manifest {
            format: 1,
            name: name.to_owned(),
            run: RunId([1; 16]),
            created_at_ms: 5,
            partitions: vec![SavedPartition {
                partition: PartitionId(0),
                offset: Offset(7),
                epoch: Epoch(1),
                generation: Generation(0),
                deployment: DeploymentId(0),
                outputs: OutputEnds::default(),
                file: "0.ckpt".to_owned(),
            }],
            deployments: BTreeMap::new(),
            modules: BTreeMap::from([(ModuleDigest([2; 32]), "module.wasm".to_owned())]),
        })
    }

    fn hours(&self) -> Result<Option<Arc<dyn Hours>>, String> {
        match self.hours.lock().unwrap().clone() {
            FakeHours::None => Ok(None),
            FakeHours::Stopped => Err("connector postgres is stopped".to_owned()),
            hours => Ok(Some(Arc::new(hours))),
        }
    }

    fn partitions_added(&self) -> Result<(), String> {
        Ok(())
    }

    fn registry(&self) -> prometheus::Registry {
        self.registry.clone()
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub broker: Arc<dyn Broker>,
    pub host: Arc<FakeHost>,
    pub run: RunId,
    pub stop: Option<oneshot::Sender<()>>,
    pub task: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

pub fn local() -> Options {
    Options { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Options::default() }
}

impl Running {
    pub async fn start(options: Options) -> Self {
        Self::start_over(options, |broker| broker).await
    }

    /// With a broker of the test's own around the log.
    pub async fn start_over(options: Options, wrap: impl FnOnce(Arc<dyn Broker>) -> Arc<dyn Broker>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn Broker> = Arc::new(EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap());
        let run = topics::create_all(&*log, &TopicsOptions::default()).unwrap().id;
        let broker = wrap(Arc::clone(&log));
        let (ready, registry) = (AtomicBool::new(true), prometheus::Registry::new());
        let host = Arc::new(FakeHost { hours: Mutex::default(), ready, registry });
        let server = Server::bind(options).unwrap();
        let address = server.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = server.serve(Arc::clone(&broker), host.clone(), async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async { served.await.unwrap() });
        Self { address, broker: log, host, run, stop: Some(stop), task, _dir: dir }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.send("POST", path, &[], body).await
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.address,
            body.len()
        );
        headers.iter().for_each(|(k, v)| head.push_str(&format!("{k}: {v}\r\n")));
        head.push_str("\r\n");
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses early may close before it has taken everything.
        let _ = socket.write_all(body).await;
        let mut answer = Vec::new();
        let _ =
            tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await.expect("an answer");
        Answer::parse(&answer)
    }

    pub fn append(&self, topic: &str, partition: u32, records: &[(Option<&[u8]>, &[u8])]) {
        let mut set = RecordSetBuilder::default();
        records.iter().for_each(|(key, value)| set.push(*key, value, 1_000));
        self.broker.append(&TopicPartition::new(topic, PartitionId(partition)), &set).unwrap().wait().unwrap();
    }

    /// One window of a minute of the partition 0, with one key.
    pub fn partial(&self, as_of: u64, start_ms: i64, dimension: &str, key_of_window: &str, impressions: i64) {
        self.partial_of(60_000, as_of, start_ms, dimension, (key_of_window, impressions));
    }

    /// The same of a window of any size.
    pub fn partial_of(&self, size: i64, as_of: u64, start_ms: i64, dimension: &str, (of, impressions): (&str, i64)) {
        let owner = Owner { run: self.run, partition: PartitionId(0), generation: Generation(0) };
        let mut key = partial::key_prefix(&owner).into_bytes();
        partial::put_guest_key(&mut key, size, start_ms, dimension);
        let mut value = Vec::new();
        partial::put_stamps(&mut value, &Version { epoch: Epoch(1), as_of: Offset(as_of) });
        partial::put_guest_head(&mut value, false, 1);
        let metrics = Metrics { impressions, clicks: 1, cost_micros: 500_000, ..Metrics::default() };
        partial::put_entry(&mut value, of.as_bytes(), &metrics);
        partial::put_end(&mut value);
        self.append(CTR_WINDOWS, 0, &[(Some(&key), &value)]);
    }

    pub fn commit(&self, partition: u32, as_of: u64, closed_before_ms: i64) {
        let stamp = Stamp { run: self.run, partition: PartitionId(partition), epoch: Epoch(1) };
        let body = Body::Commit(Commit {
            generation: Generation(0),
            as_of_offset: Offset(as_of),
            watermark_ms: Some(closed_before_ms + 60_000),
            closed_before_ms: Some(closed_before_ms),
            ledger: Ledger { counted: as_of, ..Ledger::default() },
            committed_at_ms: 1_000,
        });
        let output = Output { stamp, body };
        self.append(CTR_WINDOWS, 0, &[(Some(output.key().as_bytes()), &output.encode())]);
    }

    /// Records in the topic, over all partitions.
    pub fn count(&self, topic: &str) -> u64 {
        let partitions = self.broker.topic(topic).unwrap().unwrap().spec.partitions;
        let end = |p| self.broker.ends(&TopicPartition::new(topic, PartitionId(p))).unwrap().end.0;
        (0..partitions).map(end).sum()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Self {
        let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut body = bytes[at + 4..].to_vec();
        if head.contains("transfer-encoding: chunked") {
            body = unchunk(&body);
        }
        Self { status, head, body }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = bytes.windows(2).position(|w| w == b"\r\n") {
        let len = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).unwrap(), 16).unwrap();
        out.extend_from_slice(&bytes[at + 2..at + 2 + len]);
        bytes = &bytes[at + 4 + len..];
        if len == 0 {
            break;
        }
    }
    out
}
