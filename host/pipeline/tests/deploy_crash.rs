//! kill -9 at each step of a deploy: afterwards the old deployment is in force or the new one, each record has been judged
//! by the one that is written down for its offset, and a replay from nothing says the same.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clickmill_broker::{
    Appended, Broker, BrokerError, EmbeddedLog, Ends, LogOptions, StoredBatch, TopicInfo, TopicPartition, TopicSpec,
};
use clickmill_engine::{Engine, EngineOptions, Limits};
use clickmill_pipeline::blame::Fate;
use clickmill_pipeline::clock::SystemClock;
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::topics::{AD_EVENTS_RAW, CTR_WINDOWS, DEPLOYMENTS, TopicsOptions};
use clickmill_pipeline::views::{self, RunState, WindowQuery};
use clickmill_pipeline::{Pipeline, PipelineParts, StageModule, WorkerOptions};
use clickmill_schemas::output::{Body, Decision, Output};
use clickmill_schemas::record::{RecordSetBuilder, Records};
use clickmill_schemas::{Offset, PartitionId};

/// Where a deploy is killed, in order.
const STEPS: [&str; 8] = [
    "before the module is stored",
    "before the deployment is appended",
    "when the deployment is durable",
    "before the first activation is appended",
    "when the first activation is durable",
    "when the last activation is durable",
    "when a commit after the last activation is durable",
    "when checkpoints were written after the first activation",
];
const PARTITIONS: u32 = 3;
const BEFORE: u64 = 3_000;
const STEP: &str = "CLICKMILL_CRASH_STEP";
const FOLDER: &str = "CLICKMILL_CRASH_FOLDER";

/// A log that ends its process at one step of a deploy.
struct Killer {
    log: EmbeddedLog,
    step: usize,
    /// The deploy has begun.
    armed: Arc<AtomicBool>,
    activations: Arc<AtomicU64>,
    /// Commits since the first of them.
    commits: AtomicU64,
}

fn die() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

impl Killer {
    fn at(&self, step: &str) -> bool {
        self.armed.load(Ordering::SeqCst) && STEPS[self.step] == step
    }
}

impl Broker for Killer {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, BrokerError> {
        self.log.create_topic(spec)
    }
    fn add_partitions(&self, name: &str, partitions: u32) -> Result<TopicInfo, BrokerError> {
        self.log.add_partitions(name, partitions)
    }
    fn delete_topic(&self, name: &str) -> Result<(), BrokerError> {
        self.log.delete_topic(name)
    }
    fn topic(&self, name: &str) -> Result<Option<TopicInfo>, BrokerError> {
        self.log.topic(name)
    }
    fn topics(&self) -> Result<Vec<TopicInfo>, BrokerError> {
        self.log.topics()
    }
    fn append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        let outputs = || Records::new(set.bytes()).unwrap().filter_map(|r| Output::decode(r.unwrap().value).ok());
        let windows = &*at.topic == CTR_WINDOWS && self.armed.load(Ordering::SeqCst);
        let is_activation = |o: &Output| matches!(o.body, Body::Decision { decision: Decision::Activation { .. }, .. });
        let activates = windows && outputs().any(|o| is_activation(&o));
        let commits = windows && outputs().any(|o| matches!(o.body, Body::Commit(_)));
        let since = match commits && self.activations.load(Ordering::SeqCst) > 0 {
            true => self.commits.fetch_add(1, Ordering::SeqCst) + 1,
            false => 0,
        };
        // One more than there are partitions: one of them has come from its commit to its checkpoint.
        let checkpointed = since > u64::from(PARTITIONS) && self.at(STEPS[7]);
        if checkpointed || &*at.topic == DEPLOYMENTS && self.at(STEPS[1]) || activates && self.at(STEPS[3]) {
            die();
        }
        let deploys = &*at.topic == DEPLOYMENTS && self.at(STEPS[2]);
        let (first, last) = (activates && self.at(STEPS[4]), activates && self.at(STEPS[5]));
        let all = self.activations.clone();
        let committed = commits && self.at(STEPS[6]) && all.load(Ordering::SeqCst) == u64::from(PARTITIONS);
        let appended = self.log.append(at, set)?;
        Ok(Appended::new(move || {
            let offset = appended.wait()?;
            let now = if activates { all.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
            if deploys || first || committed || last && now == u64::from(PARTITIONS) {
                die();
            }
            Ok(offset)
        }))
    }
    fn try_append(&self, at: &TopicPartition, set: &RecordSetBuilder) -> Result<Appended, BrokerError> {
        self.log.try_append(at, set)
    }
    fn fetch(
        &self,
        at: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<Vec<StoredBatch>, BrokerError> {
        // Only the canary reads besides the workers, and it does before anything is stored.
        let worker = std::thread::current().name().is_some_and(|name| name.starts_with("worker-"));
        if self.at(STEPS[0]) && !worker {
            die();
        }
        self.log.fetch(at, from, max_bytes, max_wait)
    }
    fn ends(&self, at: &TopicPartition) -> Result<Ends, BrokerError> {
        self.log.ends(at)
    }
    fn last_batch_with(
        &self,
        at: &TopicPartition,
        matches: &mut dyn FnMut(&StoredBatch) -> bool,
    ) -> Result<Option<StoredBatch>, BrokerError> {
        self.log.last_batch_with(at, matches)
    }
    fn keep_from(&self, at: &TopicPartition, floor: Offset) {
        self.log.keep_from(at, floor);
    }
}

fn open(folder: &Path) -> EmbeddedLog {
    EmbeddedLog::open(&folder.join("log"), LogOptions::default()).unwrap()
}

fn engine(folder: &Path) -> Engine {
    Engine::new(&EngineOptions { cache_dir: Some(folder.join("cache")), ..EngineOptions::default() }).unwrap()
}

fn parts(folder: &Path, broker: Arc<dyn Broker>) -> PipelineParts {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let stage = |name: &str| StageModule {
        stage: name.to_owned(),
        name: name.to_owned(),
        version: "1".to_owned(),
        manifest: None,
        lookback: Default::default(),
        wasm: std::fs::read(root.join(format!("target/smartmodules/{name}.wasm"))).unwrap(),
        params: match name {
            "enrich" => {
                let pricing = std::fs::read_to_string(root.join("schemas/pricing.json")).unwrap();
                BTreeMap::from([("pricing".to_owned(), pricing)])
            }
            _ => BTreeMap::new(),
        },
    };
    PipelineParts {
        broker,
        engine: engine(folder),
        limits: Limits::default(),
        clock: Arc::new(SystemClock),
        registry: prometheus::Registry::new(),
        data_dir: folder.to_owned(),
        topics: TopicsOptions { partitions: PARTITIONS, ..TopicsOptions::default() },
        stages: ["validate", "enrich", "ctr-window"].map(stage).to_vec(),
        options: WorkerOptions { commit_interval: Duration::from_millis(40), ..WorkerOptions::default() },
        retries: Default::default(),
        from: None,
    }
}

/// Appends `count` events to each partition; every other one has a name that the stricter rule rejects.
fn feed(log: &dyn Broker, from: u64, count: u64) {
    for partition in (0..PARTITIONS).map(PartitionId) {
        let mut set = RecordSetBuilder::default();
        for n in from..from + count {
            let ts = 1_413_849_600_000 + i64::try_from(n).unwrap() * 10;
            let domain = if n % 2 == 0 { "short" } else { "much-longer-than-that" };
            let event = serde_json::json!({
                "id": format!("{partition}-{n}"), "click": 0, "hour": "14102100", "C1": 1005, "banner_pos": 0, "site_id": "a",
                "site_domain": domain, "site_category": "c", "app_id": "d", "app_domain": "e", "app_category": "f",
                "device_id": "g", "device_ip": "h", "device_model": "i", "device_type": 1, "device_conn_type": 0, "C14": 1,
                "C15": 320, "C16": 50, "C17": 1, "C18": 0, "C19": 35, "C20": -1, "C21": 79, "ts": ts
            });
            set.push(None, event.to_string().as_bytes(), ts);
        }
        log.append(&TopicPartition::new(AD_EVENTS_RAW, partition), &set).unwrap().wait().unwrap();
    }
}

fn until_caught_up(pipeline: &Pipeline) {
    while !pipeline.caught_up().unwrap() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
#[ignore = "a process of its own, started by the test below, which it does not survive"]
fn deploys_until_it_is_killed() {
    let (Some(folder), Some(step)) = (std::env::var_os(FOLDER), std::env::var(STEP).ok()) else { return };
    let folder = PathBuf::from(folder);
    let (armed, activations) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let step = step.parse().unwrap();
    let log: Arc<dyn Broker> =
        Arc::new(Killer { log: open(&folder), step, armed: armed.clone(), activations, commits: AtomicU64::new(0) });
    let pipeline = Pipeline::start(parts(&folder, log.clone())).unwrap();
    feed(&*log, 0, BEFORE);
    until_caught_up(&pipeline);
    // Records flow all the while.
    let feeding = log.clone();
    std::thread::spawn(move || {
        for n in 0.. {
            feed(&*feeding, BEFORE + n * 20, 20);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    std::thread::sleep(Duration::from_millis(100));
    let deployer = pipeline.deployer();
    let params = BTreeMap::from([("max_string_bytes".to_owned(), "12".to_owned())]);
    let body = DeployBody { stage: Some("validate".to_owned()), params, ..DeployBody::default() };
    let (request, options) = deployer.request(body).unwrap();
    armed.store(true, Ordering::SeqCst);
    deployer.deploy(&request, &options, Duration::from_secs(20)).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    panic!("it is alive after {}", STEPS[step]);
}

/// Runs a host on the folder until everything is processed.
fn recover(folder: &Path) {
    let log: Arc<dyn Broker> = Arc::new(open(folder));
    let pipeline = Pipeline::start(parts(folder, log)).unwrap();
    until_caught_up(&pipeline);
    pipeline.stop().unwrap();
}

/// Everything that must come out the same however often it is processed.
#[derive(Debug, PartialEq)]
struct Outcome {
    deployments: usize,
    /// By partition, the offset from which the stricter rule judges.
    strict_from: BTreeMap<PartitionId, Offset>,
    rejected: BTreeSet<(PartitionId, Offset)>,
    windows: Vec<String>,
}

fn outcome(folder: &Path) -> Outcome {
    let log: Arc<dyn Broker> = Arc::new(open(folder));
    let deployer =
        Deployer::of_folder(log.clone(), engine(folder), Limits::default(), Arc::new(SystemClock), folder.to_owned())
            .unwrap();
    let history = deployer.history();
    let newest = *history.last_key_value().unwrap().0;
    let status = views::status(&*log, RunState::Stopped, Vec::new()).unwrap();
    let mut outcome = Outcome {
        deployments: history.len(),
        strict_from: BTreeMap::new(),
        rejected: BTreeSet::new(),
        windows: Vec::new(),
    };
    for (partition, activations) in deployer.activations().unwrap() {
        let began = activations.iter().find(|(_, id)| history.len() > 1 && **id == newest).map(|(at, _)| *at);
        let end = status.partitions[partition.0 as usize].log_end_offset;
        for blame in deployer.blame(partition, Offset(0), end).unwrap() {
            let strict = began.is_some_and(|from| blame.offset >= from);
            let expected = if strict && blame.offset.0 % 2 == 1 { Fate::Rejected } else { Fate::Counted };
            assert_eq!(blame.fate, expected, "{partition}@{} {began:?}", blame.offset);
            if blame.fate == Fate::Rejected {
                outcome.rejected.insert((partition, blame.offset));
            }
        }
        outcome.strict_from.extend(began.map(|from| (partition, from)));
    }
    assert!(status.ledger.balances() && status.ledger.waiting == 0);
    assert_eq!(status.ledger.fates.rejected, outcome.rejected.len() as u64);
    assert_eq!(status.ledger.fates.counted + status.ledger.fates.rejected, status.ledger.produced);
    let query = WindowQuery { size_ms: 60_000, ..WindowQuery::default() };
    let windows = views::windows(&*log, &query).unwrap().into_rows().map(|row| {
        let row = row.unwrap();
        format!("{:?} {} {:?} {}", row.window, row.key, row.metrics, row.final_)
    });
    outcome.windows = windows.collect();
    let errors = TopicPartition::new("ad_events_error", PartitionId(0));
    let mut letters = 0;
    views::scan::scan(&*log, &errors, Offset(0), &mut |_, record| {
        letters += usize::from(record.value.windows(11).any(|w| w == b"raw_payload"));
        Ok(())
    })
    .unwrap();
    assert_eq!(letters, outcome.rejected.len(), "one dead letter for each record that is rejected");
    outcome
}

#[test]
fn whatever_step_of_a_deploy_is_the_last_one_both_sides_of_it_hold() {
    for (step, what) in STEPS.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "deploys_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .env(STEP, step.to_string())
            .output()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&child.status);
        assert_eq!(signal, Some(9), "{what}: {}", String::from_utf8_lossy(&child.stderr));
        recover(folder.path());
        let first = outcome(folder.path());
        let recorded = step >= 2;
        assert_eq!(first.deployments, if recorded { 2 } else { 1 }, "{what}");
        assert_eq!(first.strict_from.len(), if recorded { PARTITIONS as usize } else { 0 }, "{what}");
        // From nothing but the log, and what is written down in it.
        std::fs::remove_dir_all(folder.path().join("checkpoints")).unwrap();
        recover(folder.path());
        assert_eq!(outcome(folder.path()), first, "{what}");
    }
}
