//! The dead-letter queue: what has become of rejected records, and having them taken in after all.
//!
//! [`letter`] says what becomes of a letter (pure), [`book`] where each stands (a fold over `ad_events_dlq`), [`desk`] reads and
//! writes that topic, [`trial`] asks the modules, [`retrier`] makes the attempts that are due. That a retry is counted once is
//! the worker's matter (`rejected`): here anything may be sent twice.

mod book;
mod desk;
mod due;
mod earlier;
mod glance;
mod jury;
mod letter;
mod listing;
mod retrier;
mod retry;
mod trial;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, TopicPartition};
use clickmill_schemas::dead_letter::{MAX_PAYLOAD_BYTES, RawPayload};
use clickmill_schemas::dlq::{DlqRecord, LetterId, LetterState};
use clickmill_schemas::{Offset, PartitionId};

use crate::chains::ChainError;
use crate::deployment::ask::RequestError;
use crate::deployment::control::{DeployError, Deployer};
use crate::judge::JudgeError;
use crate::topics::{AD_EVENTS_DLQ, AD_EVENTS_ERROR};
use crate::views::ViewError;
use desk::Desk;
use retry::Choice;

pub use letter::RetryPolicy;
pub use listing::{Fate, Filter, Lines, Listed, Page, RuleStats, Shape, Shown, Stats};
pub use retrier::Retrier;
pub use retry::{Retried, RetryBody, Which};
pub use trial::{Fares, Objection, RuleFares};

/// Bytes of letters read at once, where all are read.
const SCAN_BYTES: usize = 1 << 20;
/// Bytes of payloads of a page, about.
const PAGE_BYTES: usize = 4 << 20;

fn dlq_topic() -> TopicPartition {
    TopicPartition::new(AD_EVENTS_DLQ, PartitionId(0))
}

fn errors_topic() -> TopicPartition {
    TopicPartition::new(AD_EVENTS_ERROR, PartitionId(0))
}

/// Why something cannot be done about letters.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    #[error("there is no dead letter {0}; `clickmill dlq list` shows those that there are")]
    Unknown(LetterId),
    #[error("dead letter {id} is {state}: {reason}", state = .state.name())]
    State { id: LetterId, state: LetterState, reason: String },
    #[error("dead letter {0} is a row that a connector's server refused: there is nothing in it that could be edited")]
    NotEditable(LetterId),
    #[error(
        "a payload may have {MAX_PAYLOAD_BYTES} bytes here, and this one has {0}: send it to the topic anew, as `clickmill produce` does"
    )]
    TooLong(usize),
    #[error(
        "these letters take too long at once: name fewer of them, or another module; what was sent by now is on its way"
    )]
    TooSlow,
    #[error("nothing is deployed yet that could judge it: `clickmill run` begins it")]
    NothingDeployed,
    #[error("a module that is not deployed can be tried (dry run), but sends nothing: deploy it first")]
    NotDeployed,
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the modules cannot be asked: {0}")]
    Judge(#[from] JudgeError),
}

/// Offers a row again to the connector whose server has refused it.
pub trait SinkRows: Send + Sync {
    /// May wait for the server.
    fn offer(&self, connector: &str, at: &TopicPartition, offset: Offset) -> Offered;
}

/// What a connector says to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    Accepted,
    /// There is a newer version of it, or it is gone.
    Superseded,
    Refused(Objection),
    /// It cannot be asked now.
    Unavailable(String),
    /// There is no such connector here.
    Unknown,
}

/// The dead letters of a data directory.
pub struct Dlq {
    broker: Arc<dyn Broker>,
    deployer: Arc<Deployer>,
    desk: Mutex<Desk>,
    /// Held by whoever attempts something: nobody else sends, edits or purges the same letter meanwhile.
    trying: Mutex<()>,
    /// Something was written down as sent, and may not be in its topic.
    unsent: AtomicBool,
    sinks: OnceLock<Arc<dyn SinkRows>>,
}

impl Dlq {
    /// Of a host, or of a data directory that no other process has.
    #[must_use]
    pub fn open(deployer: Arc<Deployer>, policy: RetryPolicy) -> Self {
        let desk = Desk::new(deployer.broker.clone(), deployer.clock.clone(), policy);
        Self::new(deployer, desk)
    }

    /// To look only.
    ///
    /// # Errors
    /// Where the topics cannot be read.
    pub fn open_to_read(deployer: Arc<Deployer>, policy: RetryPolicy) -> Result<Self, DlqError> {
        let (broker, clock) = (deployer.broker.clone(), deployer.clock.clone());
        let desk = Desk::open_to_read(broker, clock, policy)?;
        Ok(Self::new(deployer, desk))
    }

    fn new(deployer: Arc<Deployer>, desk: Desk) -> Self {
        Self {
            broker: deployer.broker.clone(),
            deployer,
            desk: Mutex::new(desk),
            trying: Mutex::default(),
            // Before the last end of the process, perhaps.
            unsent: AtomicBool::new(true),
            sinks: OnceLock::new(),
        }
    }

    /// Where rows that a server has refused are offered again.
    pub fn offer_rows_to(&self, sinks: Arc<dyn SinkRows>) {
        // Set once, by whoever starts the host.
        let _ = self.sinks.set(sinks);
    }

    fn now_ms(&self) -> i64 {
        self.deployer.clock.now_ms()
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The desk, with everything taken in that has come by now.
    fn up_to_date(&self) -> Result<MutexGuard<'_, Desk>, DlqError> {
        let mut desk = self.desk();
        desk.follow_run()?;
        while desk.take_in()? {}
        Ok(desk)
    }

    /// At most `limit` letters from this place on, in the order of their last change.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn page(&self, from: Offset, limit: usize, filter: &Filter) -> Result<Page, DlqError> {
        let (mut page, mut bytes) = (Page::default(), 0);
        self.up_to_date()?.glance(from, &mut |at, glance| {
            if !filter.lets(glance) {
                return Ok(true);
            }
            if page.letters.len() >= limit || bytes >= PAGE_BYTES {
                page.next = Some(at);
                return Ok(false);
            }
            let listed = glance.listed()?;
            bytes += listed.get().len();
            page.letters.push(listed);
            Ok(true)
        })?;
        Ok(page)
    }

    /// The same as lines of JSON, about a page of them: for those who want all.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn lines(&self, from: Offset, filter: &Filter, shape: Shape) -> Result<Lines, DlqError> {
        let mut lines = Lines::default();
        self.up_to_date()?.glance(from, &mut |at, glance| {
            if !filter.lets(glance) {
                return Ok(true);
            }
            if lines.text.len() >= PAGE_BYTES {
                lines.next = Some(at);
                return Ok(false);
            }
            glance.put(&mut lines.text, shape)?;
            lines.text.push('\n');
            Ok(true)
        })?;
        Ok(lines)
    }

    /// How many letters there are of each kind.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn stats(&self, filter: &Filter) -> Result<Stats, DlqError> {
        let mut census = listing::Census::default();
        self.up_to_date()?.glance(Offset(0), &mut |_, glance| {
            if filter.lets(glance) {
                census.add(glance);
            }
            Ok(true)
        })?;
        Ok(census.finish())
    }

    /// One letter, and how it would fare now.
    ///
    /// # Errors
    /// [`DlqError::Unknown`]; where topics or modules cannot be read.
    pub fn show(&self, id: &LetterId) -> Result<Shown, DlqError> {
        let desk = self.up_to_date()?;
        let letter = desk.find(id)?.ok_or_else(|| DlqError::Unknown(id.clone()))?;
        drop(desk);
        let now = self.would_fare(&letter)?;
        Ok(Shown { letter: letter.into(), now })
    }

    /// Puts another payload in the place of the one that was rejected, which is kept.
    ///
    /// # Errors
    /// [`DlqError`], and it is what it was.
    pub fn edit(&self, id: &LetterId, payload: &[u8]) -> Result<Listed, DlqError> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(DlqError::TooLong(payload.len()));
        }
        let _trying = self.try_one_at_a_time();
        let mut desk = self.up_to_date()?;
        let mut letter = desk.find(id)?.ok_or_else(|| DlqError::Unknown(id.clone()))?;
        if letter.letter.connector.is_some() {
            return Err(DlqError::NotEditable(id.clone()));
        }
        if !matches!(letter.state, LetterState::Dead | LetterState::Waiting) {
            return Err(DlqError::State { id: id.clone(), state: letter.state, reason: letter.reason });
        }
        let now_ms = desk.now_ms();
        letter::edited(&mut letter, RawPayload::new(payload), now_ms);
        desk.write_letters(vec![letter.clone()])?;
        Ok(letter.into())
    }

    /// Forgets letters; how many. Those that are on their way stay.
    ///
    /// # Errors
    /// [`DlqError::Unknown`], and nothing is forgotten; where that cannot be written.
    pub fn purge(&self, which: &Which) -> Result<u64, DlqError> {
        let _trying = self.try_one_at_a_time();
        let mut desk = self.up_to_date()?;
        let (mut choice, mut purged) = (Choice::new(&desk, which)?, 0);
        while !choice.is_over() {
            let letters = choice.next(&desk)?.into_iter().filter(|letter| letter.state != LetterState::Retrying);
            let run = desk.book.run;
            let records: Vec<DlqRecord> = letters.map(|letter| DlqRecord::Purged { run, id: letter.id }).collect();
            purged += records.len() as u64;
            desk.write(&records)?;
        }
        Ok(purged)
    }

    /// What has become of letters that were sent, once it is known of all of them or after `patience`.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn outcomes(&self, ids: &[LetterId], patience: Duration) -> Result<Retried, DlqError> {
        let mut retried = Retried { sent: ids.len() as u64, ..Retried::default() };
        self.tell_outcomes(ids, patience, &mut retried)?;
        Ok(retried)
    }

    /// How many letters are in each state, without looking at each.
    #[must_use]
    pub fn counts(&self) -> std::collections::BTreeMap<LetterState, u64> {
        self.desk().book.count()
    }
}
