//! What people should hear of by Slack: dead letters that were given up, a module that fails on every record, a daily summary.
//!
//! A message is written down before it is sent, and forgotten once Slack has taken it: it comes at least once, with the same
//! key each time. A Slack that is down harms nothing: it is tried again, and meanwhile counts add up in one message.

mod send;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clickmill_broker::{Broker, TopicPartition};
use clickmill_connectors::replace_file;
use clickmill_pipeline::deployment::control::Deployer;
use clickmill_pipeline::deployment::{Cause, read_all};
use clickmill_pipeline::topics::AD_EVENTS_DLQ;
use clickmill_pipeline::views::scan::scan;
use clickmill_pipeline::views::{RunState, WindowQuery, status, windows};
use clickmill_schemas::dlq::DlqRecord;
use clickmill_schemas::{DeploymentId, Offset, PartitionId};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use prometheus::Registry;
use prometheus::proto::MetricType;
use serde::{Deserialize, Serialize};

use crate::config::SlackOptions;
use send::{NotSent, Webhook};
use text::{GivenUp, Message, Totals};

/// Between two looks at what there is to say.
const TICK: Duration = Duration::from_millis(500);
/// Waits between attempts at a Slack that is down: doubling up to the second.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Name of the file in the data directory.
const FILE: &str = "slack.json";
/// What a breaker says when it pauses the pipeline.
const FAILS_ON_ALL: &str = "fails on every record";

/// What has been said, and what is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// Letters below this offset of `ad_events_dlq` have been told of.
    letters: Offset,
    deployments: Option<DeploymentId>,
    pause: Option<String>,
    /// The day of the last summary, and what there was then.
    summary: Option<String>,
    totals: Totals,
    waiting: Vec<Message>,
}

/// The parts of a host that are looked at.
pub struct Parts {
    pub broker: Arc<dyn Broker>,
    pub deployer: Arc<Deployer>,
    pub registry: Registry,
    pub data_dir: PathBuf,
}

/// Ends the thread when it is dropped, without waiting: what is not said yet is said by the next host.
pub struct Slack(Arc<AtomicBool>);

impl Drop for Slack {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Starts the thread, where a webhook is configured.
///
/// # Errors
/// Where what has been said before cannot be read, or the system gives no thread.
pub fn start(options: &SlackOptions, parts: Parts) -> Result<Option<Slack>> {
    let Some(url) = options.webhook_url.clone() else { return Ok(None) };
    let at = options.daily_summary_at.as_deref().map(str::parse).transpose().context("slack.daily_summary_at")?;
    let interval = Duration::from_millis(options.min_interval_ms);
    let memory = match read(&parts.data_dir)? {
        Some(memory) => memory,
        None => {
            // Not what was there before anybody wanted to hear of it.
            let memory = Memory {
                letters: letters_end(&*parts.broker)?,
                deployments: parts.deployer.history().keys().next_back().copied(),
                summary: at.filter(|at| now().1 >= *at).map(|_| now().0.to_string()),
                totals: totals(&*parts.broker)?,
                ..Memory::default()
            };
            write(&parts.data_dir, &memory)?;
            memory
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut notifier =
        Notifier { parts, webhook: Webhook::new(url), at, interval, memory, told: None, stop: stop.clone() };
    std::thread::Builder::new().name("slack".to_owned()).spawn(move || notifier.keep())?;
    Ok(Some(Slack(stop)))
}

struct Notifier {
    parts: Parts,
    webhook: Webhook,
    at: Option<Time>,
    /// Between two messages about letters.
    interval: Duration,
    memory: Memory,
    /// When letters were last told of.
    told: Option<Instant>,
    stop: Arc<AtomicBool>,
}

impl Notifier {
    fn keep(&mut self) {
        let (mut wait, mut complained) = (FIRST_WAIT, false);
        while self.goes_on() {
            if let Err(error) = self.look() {
                tracing::warn!("what is to be said in Slack cannot be found out: {error:#}");
                self.rest(FIRST_WAIT * 10);
                continue;
            }
            let Some(message) = self.memory.waiting.first() else {
                self.rest(TICK);
                continue;
            };
            let posted = self.webhook.post(&message.text);
            if let Err(NotSent { why, for_good: true, .. }) = &posted {
                tracing::error!("Slack refuses a message ({why}), which is left out: {}", message.text);
            }
            match posted {
                Ok(()) | Err(NotSent { for_good: true, .. }) => {
                    (wait, complained) = (FIRST_WAIT, false);
                    self.memory.waiting.remove(0);
                    if let Err(error) = write(&self.parts.data_dir, &self.memory) {
                        tracing::warn!("a message to Slack may come twice: {error:#}");
                    }
                }
                Err(not_sent) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!("Slack is not told, and is tried again: {}", not_sent.why);
                    }
                    self.rest(not_sent.wait.unwrap_or_default().max(wait));
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn rest(&self, time: Duration) {
        let begun = Instant::now();
        while self.goes_on() && begun.elapsed() < time {
            std::thread::sleep(TICK.min(time));
        }
    }

    /// Puts what there is to say among what waits, on disk.
    fn look(&mut self) -> Result<()> {
        let before = self.memory.clone();
        let quiet = self.told.is_none_or(|told| told.elapsed() >= self.interval);
        // What waits is said first: meanwhile letters add up.
        if quiet && self.memory.waiting.is_empty() {
            self.look_at_letters()?;
        }
        self.look_at_modules()?;
        self.look_at_the_clock()?;
        if self.memory != before {
            write(&self.parts.data_dir, &self.memory)?;
        }
        Ok(())
    }

    fn look_at_letters(&mut self) -> Result<()> {
        let broker = &*self.parts.broker;
        let (from, end) = (self.memory.letters, letters_end(broker)?);
        if from >= end {
            return Ok(());
        }
        let mut letters = GivenUp::default();
        let next = scan(broker, &letters_topic(), from, &mut |_, record| {
            if let Ok(DlqRecord::Letter(letter)) = DlqRecord::decode(record.value)
                && letter.given_up_at_ms.is_some()
            {
                let key = (letter.letter.error_type, letter.letter.rule.clone());
                *letters.by_rule.entry(key).or_default() += 1;
                let at_ms = letter.first_error_ms;
                letters.since_ms = Some(letters.since_ms.map_or(at_ms, |since: i64| since.min(at_ms)));
            }
            Ok(())
        })?;
        self.memory.letters = next;
        if !letters.by_rule.is_empty() {
            self.told = Some(Instant::now());
            let place = format!("{}-{from}-{next}", self.run()?);
            self.memory.waiting.push(text::given_up(&place, &letters));
        }
        Ok(())
    }

    fn look_at_modules(&mut self) -> Result<()> {
        let known = self.memory.deployments;
        let newest = self.parts.deployer.history().keys().next_back().copied();
        if newest > known {
            for (id, deployment) in read_all(&*self.parts.broker)?.into_iter().filter(|(id, _)| Some(*id) > known) {
                if matches!(deployment.cause, Cause::Breaker { .. }) {
                    let place = format!("{}-{id}", self.run()?);
                    self.memory.waiting.push(text::rolled_back(&place, &deployment.message));
                }
            }
            self.memory.deployments = newest;
        }
        let reason = self.parts.deployer.paused()?.filter(|reason| reason.contains(FAILS_ON_ALL));
        if reason != self.memory.pause {
            if let Some(reason) = &reason {
                let place = format!("{}-{}", self.run()?, Timestamp::now().as_second());
                self.memory.waiting.push(text::paused(&place, reason));
            }
            self.memory.pause = reason;
        }
        Ok(())
    }

    fn look_at_the_clock(&mut self) -> Result<()> {
        let Some(at) = self.at else { return Ok(()) };
        let (today, time) = now();
        let today = today.to_string();
        // ISO 8601 dates stand in the order of their days.
        if time < at || self.memory.summary.as_ref() >= Some(&today) {
            return Ok(());
        }
        let totals = totals(&*self.parts.broker)?;
        let place = format!("{}-{today}", self.run()?);
        let summary = text::summary(&place, &self.memory.totals, &totals, commit_p99_seconds(&self.parts.registry));
        self.memory.waiting.push(summary);
        (self.memory.summary, self.memory.totals) = (Some(today), totals);
        Ok(())
    }

    /// The first digits of the run's id.
    fn run(&self) -> Result<String> {
        let run = clickmill_pipeline::runs::current(&*self.parts.broker)?;
        Ok(run.map_or_else(String::new, |run| run.to_string().chars().take(8).collect()))
    }
}

fn letters_topic() -> TopicPartition {
    TopicPartition::new(AD_EVENTS_DLQ, PartitionId(0))
}

fn letters_end(broker: &dyn Broker) -> Result<Offset> {
    Ok(broker.ends(&letters_topic())?.end)
}

/// Day and time, UTC.
fn now() -> (Date, Time) {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    (now.date(), now.time())
}

fn totals(broker: &dyn Broker) -> Result<Totals> {
    let ledger = status(broker, RunState::Running, Vec::new())?.ledger.fates;
    let query = WindowQuery { size_ms: 60_000, dimension: Some("total".to_owned()), from_ms: None, to_ms: None };
    let (mut impressions, mut clicks) = (0_u64, 0_u64);
    for row in windows(broker, &query)?.into_rows() {
        let row = row?;
        impressions += row.metrics.impressions.unsigned_abs();
        clicks += row.metrics.clicks.unsigned_abs();
    }
    Ok(Totals { ledger, impressions, clicks })
}

/// The bucket that 99 % of this process's commits lie in, seconds; none before the first.
fn commit_p99_seconds(registry: &Registry) -> Option<f64> {
    let families = registry.gather();
    let commits = families.iter().find(|f| f.name() == "clickmill_commit_duration_seconds")?;
    if commits.get_field_type() != MetricType::HISTOGRAM {
        return None;
    }
    let histograms: Vec<_> = commits.get_metric().iter().map(|metric| metric.get_histogram()).collect();
    let all: u64 = histograms.iter().map(|histogram| histogram.get_sample_count()).sum();
    let bounds = histograms.first()?.get_bucket().iter().map(|bucket| bucket.upper_bound());
    let below = |index: usize| -> u64 {
        histograms.iter().filter_map(|h| h.get_bucket().get(index)).map(|bucket| bucket.cumulative_count()).sum()
    };
    bounds.enumerate().find(|(index, _)| all > 0 && below(*index) as f64 >= all as f64 * 0.99).map(|(_, bound)| bound)
}

fn read(data_dir: &Path) -> Result<Option<Memory>> {
    let path = data_dir.join(FILE);
    match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        bytes => {
            let bytes = bytes.with_context(|| format!("reading {}", path.display()))?;
            let unreadable =
                || format!("{} is not what clickmill has written: remove it to begin anew", path.display());
            serde_json::from_slice(&bytes).map(Some).with_context(unreadable)
        }
    }
}

/// Whole or not at all, whatever ends the process meanwhile.
fn write(data_dir: &Path, memory: &Memory) -> Result<()> {
    let path = data_dir.join(FILE);
    replace_file(&path, &serde_json::to_vec(memory)?).with_context(|| format!("writing {}", path.display()))
}
