//! A running host, over HTTP. It may die and come back: it is waited for, asked how far it got, and given the rest.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clickmill_pipeline::topics::{AD_EVENTS_ERROR, AD_EVENTS_RAW};
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::round::{RoundBatch, put_batch};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

use crate::context::TOKEN_NEEDED;
use crate::exit::mistake;

use super::super::rounds::{Batch, Positions, Round};
use super::Destination;

/// Most bytes of a request, unless a single batch has more.
const MAX_BODY_BYTES: usize = 4 << 20;
/// How long a host that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Finds the address of the host, which may change when it is started anew.
type Discover = Box<dyn Fn() -> Option<String>>;

/// A running host.
pub struct Remote {
    agent: Agent,
    address: String,
    token: Option<String>,
    discover: Discover,
    partitions: u32,
    /// The last rows that the host acknowledged.
    acknowledged: Positions,
    say: fn(&str),
}

#[derive(Deserialize)]
struct TopicReply {
    partitions: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct PositionsReply {
    positions: Vec<Option<u64>>,
}

#[derive(Deserialize)]
struct RoundReply {
    base_offsets: Vec<u64>,
}

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// May go better later; whether anything was stored must be asked for.
    #[error("{0}")]
    Later(String),
    #[error("{0}")]
    Final(String),
    #[error("{TOKEN_NEEDED}")]
    Token,
}

impl Remote {
    /// Asks the host at `address` (`http://…`) for the topic.
    ///
    /// # Errors
    /// Where it does not answer in time, or not as a host does.
    pub fn new(address: String, token: Option<String>, discover: Discover, say: fn(&str)) -> anyhow::Result<Self> {
        let config = Agent::config_builder()
            // A proxy cannot reach this machine's loopback.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_global(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        let acknowledged = Positions::default();
        let mut remote = Self { agent: config.into(), address, token, discover, partitions: 0, acknowledged, say };
        let topic: TopicReply = remote.patiently(|host| host.get(&format!("/api/topics/{AD_EVENTS_RAW}")))?;
        remote.partitions = u32::try_from(topic.partitions.len())?;
        remote.acknowledged.events = vec![None; topic.partitions.len()];
        remote.acknowledged.dead_letters = vec![None];
        Ok(remote)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        let mut request = self.agent.get(format!("{}{path}", self.address));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.reply(path, request.call())
    }

    fn post(&self, path: &str, body: &[u8]) -> Result<RoundReply, Refusal> {
        let url = format!("{}{path}", self.address);
        let mut request = self.agent.post(url).header("Content-Type", "application/octet-stream");
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        self.reply(path, request.send(body))
    }

    fn reply<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Refusal> {
        let later = |e: &dyn std::fmt::Display| Refusal::Later(format!("{}: {e}", self.address));
        let mut answer = answer.map_err(|e| later(&e))?;
        let status = answer.status();
        let body = answer.body_mut().read_to_string().map_err(|e| later(&e))?;
        match status.as_u16() {
            200 => serde_json::from_str(&body)
                .map_err(|e| Refusal::Final(format!("{}{path}: not an answer of clickmill ({e})", self.address))),
            401 => Err(Refusal::Token),
            408 | 429 | 502..=504 => Err(later(&format!("{status}: {}", message(&body)))),
            _ => Err(Refusal::Final(format!("{}{path}: {status}: {}", self.address, message(&body)))),
        }
    }

    /// Asks until there is an answer, or the host was waited for too long.
    fn patiently<T>(&mut self, ask: impl Fn(&Self) -> Result<T, Refusal>) -> anyhow::Result<T> {
        let (begun, mut pause, mut told) = (Instant::now(), FIRST_PAUSE, false);
        loop {
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Final(why)) => bail!(why),
                Err(Refusal::Token) => return Err(mistake(TOKEN_NEEDED)),
                Err(Refusal::Later(why)) if begun.elapsed() + pause > PATIENCE => {
                    bail!("{why}; waited {} s for the host. Go on with --resume when it runs", PATIENCE.as_secs())
                }
                Err(Refusal::Later(why)) => {
                    if !told && begun.elapsed() > Duration::from_secs(1) {
                        (self.say)(&format!("waiting for the host: {why}"));
                        told = true;
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    if let Some(address) = (self.discover)() {
                        self.address = address;
                    }
                }
            }
        }
    }

    fn positions_in(&mut self, topic: &str, source: u64) -> anyhow::Result<Vec<Option<u64>>> {
        let path = format!("/internal/topics/{topic}/source/{source}");
        let reply: PositionsReply = self.patiently(|host| host.get(&path))?;
        Ok(reply.positions)
    }

    /// Sends batches of one topic, each once, in order.
    fn deliver(&mut self, source: u64, topic: &str, batches: &[Batch]) -> anyhow::Result<()> {
        let path = format!("/internal/topics/{topic}/rounds");
        let mut body = Vec::new();
        let mut left: Vec<&Batch> = batches.iter().collect();
        let (mut since, mut pause) = (Instant::now(), FIRST_PAUSE);
        while !left.is_empty() {
            body.clear();
            let mut count = 0;
            for batch in &left {
                if count > 0 && body.len() + batch.set.bytes().len() > MAX_BODY_BYTES {
                    break;
                }
                let (partition, set) = (batch.partition, batch.set.bytes());
                put_batch(&mut body, &RoundBatch { partition, base_timestamp_ms: batch.set.base_timestamp_ms(), set })?;
                count += 1;
            }
            match self.post(&path, &body) {
                Ok(reply) if reply.base_offsets.len() == count => {
                    self.acknowledge(topic, left.drain(..count))?;
                    (since, pause) = (Instant::now(), FIRST_PAUSE);
                }
                Ok(reply) => bail!("{}{path}: {} of {count} batches", self.address, reply.base_offsets.len()),
                Err(Refusal::Final(why)) => bail!(why),
                Err(Refusal::Token) => return Err(mistake(TOKEN_NEEDED)),
                Err(Refusal::Later(why)) if since.elapsed() > PATIENCE => {
                    bail!("{why}; nothing got through for {} s. Go on with --resume", PATIENCE.as_secs())
                }
                Err(Refusal::Later(_)) => {
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let there = self.positions_in(topic, source)?;
                    self.check_nothing_lost(topic, &there)?;
                    // Not always the first ones: each partition may have become durable up to another batch.
                    let (done, rest): (Vec<&Batch>, _) = left.iter().partition(|batch| is_there(&there, batch));
                    left = rest;
                    if !done.is_empty() {
                        self.acknowledge(topic, done)?;
                        since = Instant::now();
                    }
                }
            }
        }
        Ok(())
    }

    fn acknowledged_in(&mut self, topic: &str) -> &mut Vec<Option<u64>> {
        if topic == AD_EVENTS_RAW { &mut self.acknowledged.events } else { &mut self.acknowledged.dead_letters }
    }

    fn acknowledge<'b>(&mut self, topic: &str, batches: impl IntoIterator<Item = &'b Batch>) -> anyhow::Result<()> {
        let acknowledged = self.acknowledged_in(topic);
        for batch in batches {
            let last = acknowledged.get_mut(batch.partition.0 as usize);
            *last.context("a batch for a partition that does not exist")? = Some(batch.last_row);
        }
        Ok(())
    }

    fn check_nothing_lost(&mut self, topic: &str, there: &[Option<u64>]) -> anyhow::Result<()> {
        let acknowledged = self.acknowledged_in(topic);
        // Partitions may have been added: nothing was sent there.
        if acknowledged.len() > there.len() || acknowledged.iter().zip(there).any(|(before, now)| now < before) {
            bail!(
                "topic {topic} came back without rows that it had acknowledged: was its data directory replaced? \
                 Start again with --resume"
            );
        }
        Ok(())
    }
}

fn is_there(positions: &[Option<u64>], batch: &Batch) -> bool {
    positions.get(batch.partition.0 as usize).is_some_and(|last| last.is_some_and(|row| row >= batch.last_row))
}

/// The message of an error's JSON body, else the body itself.
fn message(body: &str) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|v| v.pointer("/error/message")?.as_str());
    message.unwrap_or(body).trim().chars().take(500).collect()
}

impl Destination for Remote {
    fn partitions(&self) -> u32 {
        self.partitions
    }

    fn positions(&mut self, source: u64) -> anyhow::Result<Positions> {
        let events = self.positions_in(AD_EVENTS_RAW, source)?;
        let dead_letters = self.positions_in(AD_EVENTS_ERROR, source)?;
        self.acknowledged = Positions { events: events.clone(), dead_letters: dead_letters.clone() };
        Ok(Positions { events, dead_letters })
    }

    fn send(&mut self, source: u64, rounds: Vec<Round>, spare: &mut Vec<RecordSetBuilder>) -> anyhow::Result<()> {
        let (mut events, mut dead_letters) = (Vec::new(), Vec::new());
        for round in rounds {
            events.extend(round.events);
            dead_letters.extend(round.dead_letters);
        }
        self.deliver(source, AD_EVENTS_ERROR, &dead_letters)?;
        self.deliver(source, AD_EVENTS_RAW, &events)?;
        spare.extend(events.into_iter().chain(dead_letters).map(|b| b.set));
        Ok(())
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        // Every request is answered after what it brought is durable.
        Ok(())
    }
}

#[cfg(test)]
mod tests;
