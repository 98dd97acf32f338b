//! The thread that keeps the letters: takes in what is rejected, and makes the attempts that are due.
//!
//! It runs at low priority and rests after each attempt: a stream of poison takes no core from the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clickmill_schemas::dlq::{Letter, LetterState};

use super::jury::{Jury, Over, Payload, deployment_of};
use super::retry::CUT;
use super::{Dlq, DlqError, letter};
use crate::quiet::lower_priority;

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
/// Attempts made together.
const AT_ONCE: usize = 64;

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
    let (mut resent, mut complained) = (false, false);
    while !stopped() {
        let begun = Instant::now();
        let round = (|| {
            if !resent {
                // Whether they came into the topic before the last end of the process is not known.
                dlq.send_again()?;
                resent = true;
            }
            drop(dlq.up_to_date()?);
            dlq.attempt_due(over.clone())
        })();
        let rest = match round {
            Ok(0) => IDLE,
            Ok(_) => (begun.elapsed() * REST).clamp(Duration::from_millis(1), LONGEST_REST),
            Err(error) => {
                // A full disk, mostly. What was to be sent is sent again.
                resent = false;
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
    /// Sends again what is on its way by what is written down.
    fn send_again(&self) -> Result<(), DlqError> {
        let _trying = self.try_one_at_a_time();
        let desk = self.up_to_date()?;
        let now_ms = desk.now_ms();
        let mut letters = Vec::new();
        for id in desk.book.due(LetterState::Retrying, now_ms) {
            letters.extend(desk.find(&id)?);
        }
        drop(desk);
        let (payloads, _) = self.payloads(letters)?;
        self.append(&payloads, now_ms)
    }

    /// Makes attempts that are due; how many.
    fn attempt_due(&self, over: Over) -> Result<usize, DlqError> {
        let _trying = self.try_one_at_a_time();
        let desk = self.desk();
        let now_ms = desk.now_ms();
        let mut due = Vec::new();
        for id in desk.book.due(LetterState::Waiting, now_ms).into_iter().take(AT_ONCE) {
            due.extend(desk.find(&id)?);
        }
        drop(desk);
        if due.is_empty() {
            return Ok(0);
        }
        let (rows, records): (Vec<Letter>, Vec<Letter>) = due.into_iter().partition(|l| l.letter.connector.is_some());
        let mut made = records.len();
        for row in rows {
            made += usize::from(self.offer(row)?);
        }
        let (payloads, cut) = self.payloads(records)?;
        let mut refused: Vec<(Letter, (String, String))> =
            cut.into_iter().map(|letter| (letter, ("payload_cut".to_owned(), CUT.to_owned()))).collect();
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
        let mut desk = self.desk();
        let mut written = Vec::with_capacity(refused.len());
        for (mut letter, told) in refused {
            let deployment = deployment_of(&self.deployer, &letter);
            letter::refused(&mut letter, deployment, told, &desk.policy, now_ms);
            written.push(letter);
        }
        desk.write_letters(written)?;
        drop(desk);
        self.send(passing)?;
        Ok(made)
    }
}
