//! The thread that keeps the letters: takes in what is rejected, and makes the attempts that are due.
//!
//! It runs at low priority, and rests after modules were asked: a stream of poison takes no core from the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_schemas::Offset;
use clickmill_schemas::dlq::{Letter, LetterId};

use super::due::{Lane, Rests};
use super::jury::{Jury, Over, Payload, deployment_of};
use super::retry::{CUT, Row};
use super::{Dlq, DlqError, letter};
use crate::quiet::lower_priority;
use crate::views::status as view_status;
use crate::views::status::RunState;

/// Between two looks at the topic while nothing comes.
const IDLE: Duration = Duration::from_millis(100);
/// Between two attempts to read a topic that cannot be read.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// Rest after an attempt, against the time that it took: a module that loops takes its time limit for each, and who deploys
/// another one needs the core.
const REST: u32 = 19;
const LONGEST_REST: Duration = Duration::from_secs(30);
/// Longest wait for the thread's end.
const LAST_MOMENT: Duration = Duration::from_millis(300);
/// The rule of a letter that cannot be tried.
const PAYLOAD_CUT: &str = "payload_cut";
/// Attempts made together: few enough that whoever edits a letter meanwhile does not wait long, whatever the modules do.
const AT_ONCE: usize = 16;
/// Letters sent again together.
const SENT_AT_ONCE: usize = 512;

/// Keeps the letters of a running host until it is dropped.
pub struct Retrier {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Retrier {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system gives none.
    pub fn start(dlq: Arc<Dlq>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            lower_priority();
            keep(&dlq, &stopped);
        };
        let thread = std::thread::Builder::new().name("dead-letters".to_owned()).spawn(work)?;
        Ok(Self { stop, thread })
    }
}

impl Retrier {
    /// Ends it, and waits a moment for what is being done; a module that loops is left alone with it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        while begun.elapsed() < LAST_MOMENT && !self.thread.is_finished() {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Retrier {
    fn drop(&mut self) {
        self.stop();
    }
}

fn keep(dlq: &Dlq, stop: &Arc<AtomicBool>) {
    let stopped = || stop.load(Ordering::Relaxed);
    let over: Over = {
        let stop = stop.clone();
        Arc::new(move || stop.load(Ordering::Relaxed))
    };
    let (mut before, mut rests, mut complained) = (None, Rests::default(), false);
    while !stopped() {
        let mut begun = Instant::now();
        let round = (|| {
            drop(dlq.up_to_date()?);
            dlq.send_again(&mut before)?;
            dlq.offer_due(&mut rests)?;
            begun = Instant::now();
            dlq.attempt_due(over.clone())
        })();
        let rest = match round {
            Ok(0) => IDLE,
            Ok(_) => (begun.elapsed() * REST).clamp(Duration::from_millis(1), LONGEST_REST),
            Err(error) => {
                // A full disk, mostly.
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, "dead letters wait: nothing of them is lost");
                }
                AFTER_ERROR
            }
        };
        complained &= rest == AFTER_ERROR;
        let resting = Instant::now();
        while !stopped() && resting.elapsed() < rest {
            std::thread::sleep(rest.min(IDLE / 2));
        }
    }
}

impl Dlq {
    /// Sends again what is on its way by what is written down, where it may have been lost: once everything is judged that was
    /// in the topic when that came to light, what is on its way still is not in it. `before`: the topic's ends then.
    fn send_again(&self, before: &mut Option<Vec<Offset>>) -> Result<(), DlqError> {
        if !self.unsent.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.desk().book.retrying().is_empty() {
            self.unsent.store(false, Ordering::Relaxed);
            return Ok(());
        }
        let status = view_status::status(&*self.broker, RunState::Running, Vec::new())?;
        let ends = || status.partitions.iter().map(|partition| partition.log_end_offset).collect();
        let ends = before.get_or_insert_with(ends);
        if status.partitions.iter().zip(&*ends).any(|(partition, end)| partition.processed_offset < *end) {
            return Ok(());
        }
        *before = None;
        let _trying = self.try_one_at_a_time();
        let desk = self.up_to_date()?;
        let now_ms = desk.now_ms();
        let lost: Vec<LetterId> = desk.book.retrying().iter().cloned().collect();
        drop(desk);
        for some in lost.chunks(SENT_AT_ONCE) {
            let letters = self.desk().find_all(some)?.into_values().collect();
            let (payloads, cut) = self.payloads(letters)?;
            self.append(&payloads, now_ms)?;
            let cut = cut.into_iter().map(|letter| (letter, (PAYLOAD_CUT.to_owned(), CUT.to_owned())));
            self.write_refused(cut, now_ms)?;
        }
        self.unsent.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Offers rows to their connectors whose attempt is due. One that cannot be asked is left alone for a while.
    fn offer_due(&self, rests: &mut Rests) -> Result<(), DlqError> {
        let desk = self.desk();
        let (now_ms, policy) = (desk.now_ms(), desk.policy.clone());
        let is_meant = |lane: &&Lane| **lane != Lane::Modules && !rests.has(lane, now_ms);
        let lanes: Vec<Lane> = desk.book.waiting().lanes().filter(is_meant).cloned().collect();
        drop(desk);
        for lane in lanes {
            let desk = self.desk();
            let due = desk.find_all(&desk.book.waiting().by(&lane, now_ms, AT_ONCE))?;
            let rows: Vec<Row> = due.into_values().map(|letter| Row::new(letter, &desk)).collect();
            drop(desk);
            for row in rows {
                if !self.offer(row)? {
                    rests.begin(lane, &policy, now_ms);
                    break;
                }
                rests.end(&lane);
            }
        }
        Ok(())
    }

    /// Makes attempts with the modules that are due; how many.
    fn attempt_due(&self, over: Over) -> Result<usize, DlqError> {
        let _trying = self.try_one_at_a_time();
        let desk = self.desk();
        let now_ms = desk.now_ms();
        let due = desk.find_all(&desk.book.waiting().by(&Lane::Modules, now_ms, AT_ONCE))?;
        drop(desk);
        if due.is_empty() {
            return Ok(0);
        }
        let made = due.len();
        let records = due.into_values().collect();
        let (payloads, cut) = self.payloads(records)?;
        let mut refused: Vec<(Letter, (String, String))> =
            cut.into_iter().map(|letter| (letter, (PAYLOAD_CUT.to_owned(), CUT.to_owned()))).collect();
        let mut objections = Vec::with_capacity(payloads.len());
        let mut jury = Jury::new(&self.deployer, None, over)?;
        match jury.judge(&payloads, now_ms, &mut |_, objection| objections.push(objection)) {
            // The host is about to end.
            Err(DlqError::TooSlow) => return Ok(made),
            judged => judged?,
        }
        let mut passing: Vec<Payload> = Vec::new();
        for (payload, objection) in payloads.into_iter().zip(objections) {
            match objection {
                None => passing.push(payload),
                Some(objection) => refused.push((payload.letter, (objection.rule, objection.message))),
            }
        }
        self.write_refused(refused, now_ms)?;
        self.send(passing)?;
        Ok(made)
    }

    /// Writes down attempts that came to nothing: rule and message of each.
    fn write_refused(
        &self,
        refused: impl IntoIterator<Item = (Letter, (String, String))>,
        now_ms: i64,
    ) -> Result<(), DlqError> {
        let mut desk = self.desk();
        let refused = refused.into_iter().map(|(mut letter, told)| {
            let deployment = deployment_of(&self.deployer, &letter);
            letter::refused(&mut letter, deployment, told, &desk.policy, now_ms);
            letter
        });
        let refused = refused.collect();
        desk.write_letters(refused)
    }
}
