//! What only a host process of its own shows: memory, latency to PostgreSQL, and the restart after kill -9.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clickmill_broker::TopicPartition;
use clickmill_pipeline::topics::AD_EVENTS_RAW;
use clickmill_schemas::PartitionId;
use clickmill_schemas::record::RecordSetBuilder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Bench, Goal, Report, events, forget};
use crate::config::Config;
use crate::stack::Stack;

/// Events a second of the latency measurement, and for how long.
const RATE: usize = 20_000;
const LATENCY_SECONDS: usize = 15;

/// Resident memory of a host that has processed a tenth, and all, of the rows.
pub fn memory(bench: &Bench, rows: u64, report: &mut Report) -> Result<()> {
    let mut peaks = Vec::new();
    for rows in [rows / 10, rows] {
        let config = bench.config("memory");
        events::fill(&config, &bench.rows(rows, 240)?)?;
        let mut host = Host::start(&config)?;
        host.until_processed(rows)?;
        host.until_confirmed()?;
        let peak = host.peak_mib()?;
        report.add(format!("memory: peak of run over {rows} events"), peak, "MiB", Goal::AtMost(250.0));
        peaks.push(peak);
        host.stop()?;
        forget(&config.data_dir)?;
    }
    report.add("memory: all rows against a tenth of them", peaks[1] / peaks[0], "×", Goal::AtMost(1.25));
    Ok(())
}

/// Kill -9 in the middle of the rows, then the time to the first batch, and to where it was.
pub fn restart(bench: &Bench, rows: u64, report: &mut Report) -> Result<()> {
    let config = bench.config("restart");
    events::fill(&config, &bench.rows(rows, 240)?)?;
    let mut host = Host::start(&config)?;
    let reached = loop {
        let processed = host.processed()?;
        if processed > rows / 4 {
            break processed;
        }
        ensure!(processed < rows, "the host was done before it could be killed: give more --large-rows");
    };
    host.child.kill()?;
    host.child.wait()?;
    let begun = Instant::now();
    let mut host = Host::start(&config)?;
    let first = host.first_batch(begun)?;
    host.until_processed(reached)?;
    let again = begun.elapsed();
    report.add("restart: first batch after kill -9", first.as_secs_f64(), "s", Goal::AtMost(0.5));
    let intervals = again.as_secs_f64() * 1e3 / config.pipeline.commit_interval_ms as f64;
    report.add("restart: offset before the kill again", intervals, "commit intervals", Goal::AtMost(1.5));
    host.stop()?;
    forget(&config.data_dir)
}

/// Time from an append to the commit that holds it being visible in PostgreSQL.
pub fn latency(bench: &Bench, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let lines = events::produced(bench, (RATE * LATENCY_SECONDS) as u64, 24)?;
    for (interval_ms, goal) in [(1_000, 1_150.0), (100, 200.0)] {
        let mut config = bench.config("latency");
        config.pipeline.commit_interval_ms = interval_ms;
        let mut times = runtime.block_on(latencies(&config, &lines))?;
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        let name = |p: &str| format!("latency, commits every {interval_ms} ms: {p}");
        report.add(name("p50"), at(0.5), "ms", Goal::None);
        report.add(name("p99"), at(0.99), "ms", Goal::AtMost(goal));
        forget(&config.data_dir)?;
    }
    Ok(())
}

async fn latencies(config: &Config, lines: &[Vec<u8>]) -> Result<Vec<Duration>> {
    let stack = Stack::start(config).await?;
    let url = stack.servers().postgres().await?;
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let partitions = config.broker.topics.ad_events_raw.partitions;
    let broker = stack.broker();
    while !client.query_one("SELECT to_regclass('realtime.watermarks') IS NOT NULL", &[]).await?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // 10 ms of events at a time, each round to the next partition.
    let per_round = RATE / 100;
    let rounds: Vec<Vec<Vec<u8>>> = lines.chunks(per_round).map(<[Vec<u8>]>::to_vec).collect();
    let sender = tokio::task::spawn_blocking(move || {
        let begun = Instant::now();
        let mut sent = Vec::new();
        for (i, round) in rounds.iter().enumerate() {
            let due = Duration::from_millis(10) * i as u32;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            let partition = PartitionId(i as u32 % partitions);
            let mut set = RecordSetBuilder::default();
            round.iter().for_each(|line| set.push(None, line, 0));
            // From when it was due: a sender that falls behind must not hide it.
            let at = begun + due;
            let base = broker.append(&TopicPartition::new(AD_EVENTS_RAW, partition), &set)?.wait()?;
            sent.push((partition, base.plus(round.len() as u64), at));
        }
        anyhow::Ok(sent)
    });
    let mut seen: Vec<(PartitionId, u64, Instant)> = Vec::new();
    let query = client.prepare("SELECT partition::bigint, as_of_offset::bigint FROM realtime.watermarks").await?;
    let mut sent = None;
    let mut sender = Some(sender);
    loop {
        for row in client.query(&query, &[]).await? {
            let partition = PartitionId(u32::try_from(row.get::<_, i64>(0))?);
            let as_of = u64::try_from(row.get::<_, i64>(1))?;
            let known = seen.iter().rev().find(|(p, ..)| *p == partition).map_or(0, |(_, as_of, _)| *as_of);
            if as_of > known {
                seen.push((partition, as_of, Instant::now()));
            }
        }
        if sender.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            && let Some(done) = sender.take()
        {
            sent = Some(done.await??);
        }
        if let Some(sent) = &sent {
            let times: Vec<_> = sent
                .iter()
                .filter_map(|(partition, end, at)| {
                    let row = seen.iter().find(|(p, as_of, _)| p == partition && *as_of >= end.0)?;
                    Some(row.2 - *at)
                })
                .collect();
            if times.len() == sent.len() {
                drop(client);
                connection.await??;
                stack.stop(tokio::time::Instant::now()).await?;
                return Ok(times);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// `clickmill run` as a process of its own, with HTTP on a free port.
struct Host {
    child: Child,
    log: std::path::PathBuf,
    log_from: u64,
    address: Option<String>,
}

impl Host {
    fn start(config: &Config) -> Result<Self> {
        let log = config.data_dir.join("host.log");
        let file = File::options().create(true).append(true).open(&log)?;
        let log_from = file.metadata()?.len();
        let child = Command::new(std::env::current_exe()?)
            .args(["run"])
            .env("CLICKMILL_DATA_DIR", &config.data_dir)
            .env("CLICKMILL_LISTEN", "127.0.0.1:0")
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log, log_from, address: None })
    }

    /// The whole lines so far: the host may be in the middle of writing the last one.
    fn lines(&self) -> Result<Vec<String>> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.log_from))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        Ok(whole.lines().map(str::to_owned).collect())
    }

    fn status(&mut self) -> Result<Option<Value>> {
        if let Some(code) = self.child.try_wait()? {
            bail!("the host ended ({code}): see {}", self.log.display());
        }
        if self.address.is_none() {
            let lines = self.lines()?;
            let line = lines.iter().find_map(|l| l.strip_prefix("clickmill runs: "));
            self.address = line.and_then(|l| l.split_whitespace().next()).map(str::to_owned);
        }
        let Some(address) = &self.address else { return Ok(None) };
        match ureq::get(format!("{address}/api/status")).call() {
            Ok(mut answer) => Ok(Some(answer.body_mut().read_json()?)),
            Err(_) => Ok(None),
        }
    }

    /// Events that are committed, over all partitions.
    fn processed(&mut self) -> Result<u64> {
        let status = self.status()?;
        let partitions = status.as_ref().and_then(|s| s["partitions"].as_array());
        Ok(partitions.map_or(0, |all| all.iter().filter_map(|p| p["processed_offset"].as_u64()).sum()))
    }

    fn until_processed(&mut self, events: u64) -> Result<()> {
        while self.processed()? < events {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Waits for the sinks: what they hold while they catch up is the host's memory too.
    fn until_confirmed(&mut self) -> Result<()> {
        loop {
            let status = self.status()?;
            let sinks = status.as_ref().and_then(|s| s["sinks"].as_array());
            if sinks.is_some_and(|all| all.iter().all(|sink| sink["lag"] == 0)) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// When the host says that its first batch is through.
    fn first_batch(&mut self, begun: Instant) -> Result<Duration> {
        loop {
            if self.lines()?.iter().any(|line| line.contains("first batch processed")) {
                return Ok(begun.elapsed());
            }
            ensure!(begun.elapsed() < Duration::from_secs(60), "no first batch: see {}", self.log.display());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn peak_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(Path::new("/proc").join(self.child.id().to_string()).join("status"))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
        Ok(kib / 1024.0)
    }

    /// A clean stop, which stops its servers too: after a kill they might still write while the folder goes.
    fn stop(mut self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed()).context("a process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the host ended ({status}): see {}", self.log.display());
        Ok(())
    }
}
