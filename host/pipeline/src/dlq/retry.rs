//! Attempts: which letters, what the modules say of them now, and sending those that pass.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clickmill_broker::TopicPartition;
use clickmill_schemas::Offset;
use clickmill_schemas::dead_letter::{Origin, RawPayload};
use clickmill_schemas::dlq::{Letter, LetterId, LetterState, Outcome};
use clickmill_schemas::envelope::{Retry, RetryOf};
use clickmill_schemas::record::RecordSetBuilder;
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::jury::{Jury, Over, Payload, deployment_of, partition_of};
use super::letter;
use super::listing::{Fate, Filter};
use super::trial::{Fares, Objection};
use super::{Dlq, DlqError, Offered, PAGE_BYTES, SCAN_BYTES};
use crate::deployment::body::DeployBody;
use crate::topics::AD_EVENTS_RAW;
use crate::views::scan::visit_batch;

/// Letters that are looked at together.
const CHUNK: usize = 512;
/// Between two looks at what has become of those that were sent.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time for all the letters of one question: with the wait for their fates, well below the limit of a request.
const PATIENCE: Duration = Duration::from_secs(15);
/// Why a letter cannot be tried.
pub(super) const CUT: &str = "only the beginning of its payload is left: retention has taken the record";
/// Letters that an answer names one by one.
const NAMED: usize = 1_000;

/// Which letters are meant: those named, or all that the filter lets through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<LetterId>,
    pub filter: Filter,
}

/// What is asked of a retry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryBody {
    pub which: Which,
    /// Only say how they would fare.
    pub dry_run: bool,
    /// Of a dry run: with this module in its stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<DeployBody>,
    /// Longest wait for what becomes of those that are sent, milliseconds.
    pub wait_ms: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// What the modules say of the letters that were meant and are open; rows that servers refused are not among them.
    pub fares: Fares,
    /// Letters that have been sent, or offered to their connector.
    pub sent: u64,
    /// Letters that are resolved, or on their way already.
    pub skipped: u64,
    /// Rows whose connector could not be asked now: they stay as they are.
    #[serde(default)]
    pub unavailable: u64,
    /// Letters whose payload is not all there any more.
    pub cut: u64,
    /// What became of those that were sent, as far as it is known by now.
    pub outcomes: BTreeMap<String, u64>,
    /// Sent, and not known yet.
    pub under_way: u64,
    /// The first of them, one by one.
    pub letters: Vec<RetriedLetter>,
}

/// One letter of a [`Retried`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetriedLetter {
    pub id: LetterId,
    pub state: LetterState,
    pub reason: String,
}

/// Goes through the letters that are meant, some at a time.
pub(super) struct Choice {
    filter: Option<Filter>,
    ids: VecDeque<LetterId>,
    from: Offset,
    end: Offset,
}

impl Choice {
    /// # Errors
    /// [`DlqError::Unknown`] for a name that none has.
    pub(super) fn new(desk: &Desk, which: &Which) -> Result<Self, DlqError> {
        if let Some(unknown) = which.ids.iter().find(|id| desk.book.place(id).is_none()) {
            return Err(DlqError::Unknown(unknown.clone()));
        }
        let filter = which.ids.is_empty().then(|| which.filter.clone());
        let mut named = BTreeSet::new();
        let ids = which.ids.iter().filter(|id| named.insert(*id)).cloned().collect();
        // What is written meanwhile is not chosen again.
        Ok(Self { filter, ids, from: Offset(0), end: desk.book.next })
    }

    /// The next ones; none at the end.
    pub(super) fn next(&mut self, desk: &Desk) -> Result<Vec<Letter>, DlqError> {
        let mut chunk = Vec::new();
        let Some(filter) = &self.filter else {
            let mut bytes = 0;
            while chunk.len() < CHUNK && bytes < PAGE_BYTES {
                let Some(id) = self.ids.pop_front() else { break };
                let letter = desk.find(&id)?;
                bytes += letter.as_ref().map_or(0, |letter| letter.letter.payload.raw_payload.len());
                chunk.extend(letter);
            }
            return Ok(chunk);
        };
        let (end, mut bytes, mut next) = (self.end, 0, self.end);
        desk.each(self.from, SCAN_BYTES, &mut |at, letter| {
            let full = chunk.len() >= CHUNK || bytes >= PAGE_BYTES;
            if at >= end || full {
                next = at;
                return false;
            }
            if filter.means(&letter) {
                bytes += letter.letter.payload.raw_payload.len();
                chunk.push(letter);
            }
            true
        })?;
        self.from = next;
        Ok(chunk)
    }

    pub(super) fn is_over(&self) -> bool {
        self.ids.is_empty() && (self.filter.is_none() || self.from >= self.end)
    }
}

/// A letter of a row that a server has refused, and its newest record when it was read.
pub(super) struct Row {
    pub letter: Letter,
    at: Option<Offset>,
}

impl Row {
    pub(super) fn new(letter: Letter, desk: &Desk) -> Self {
        let at = desk.book.entry(&letter.id).map(|entry| entry.at);
        Self { letter, at }
    }
}

impl Dlq {
    /// Tries letters again: those that the modules take now are sent into the input topic, each as a retry of its origin.
    ///
    /// # Errors
    /// [`DlqError`]; what was sent by then is on its way.
    pub fn retry(&self, body: RetryBody) -> Result<Retried, DlqError> {
        if body.with.is_some() && !body.dry_run {
            return Err(DlqError::NotDeployed);
        }
        let mut retried = Retried::default();
        let mut choice = Choice::new(&*self.up_to_date()?, &body.which)?;
        let candidate = body.with.map(|with| self.deployer.request(with)).transpose()?;
        let begun = Instant::now();
        let over: Over = Arc::new(move || begun.elapsed() > PATIENCE);
        let mut jury = Jury::new(&self.deployer, candidate.as_ref().map(|(request, _)| request), over.clone())?;
        let (mut sent, mut away) = (Vec::new(), BTreeSet::new());
        while !choice.is_over() {
            if over() {
                return Err(DlqError::TooSlow);
            }
            // Who only asks keeps nobody from trying.
            let trying = (!body.dry_run).then(|| self.try_one_at_a_time());
            let desk = self.desk();
            let letters = choice.next(&desk)?;
            let open = |letter: &Letter| matches!(letter.state, LetterState::Dead | LetterState::Waiting);
            let all = letters.len();
            let open: Vec<Letter> = letters.into_iter().filter(open).collect();
            retried.skipped += (all - open.len()) as u64;
            let (rows, records): (Vec<_>, Vec<_>) = open.into_iter().partition(|l| l.letter.connector.is_some());
            let rows: Vec<Row> = rows.into_iter().map(|letter| Row::new(letter, &desk)).collect();
            drop(desk);
            let (payloads, cut) = self.payloads(records)?;
            retried.cut += cut.len() as u64;
            let mut passes = Vec::with_capacity(payloads.len());
            jury.judge(&payloads, self.now_ms(), &mut |letter, objection| {
                retried.fares.add(letter, objection.as_ref());
                passes.push(objection.is_none());
            })?;
            if body.dry_run {
                continue;
            }
            let passing: Vec<Payload> = payloads.into_iter().zip(passes).filter(|(_, p)| *p).map(|(p, _)| p).collect();
            sent.extend(passing.iter().map(|p| p.letter.id.clone()));
            self.send(passing)?;
            drop(trying);
            for row in rows {
                let (id, connector) = (row.letter.id.clone(), row.letter.letter.connector.clone());
                // A server that hangs is asked once.
                if !away.contains(&connector) && self.offer(row)? {
                    sent.push(id);
                } else {
                    retried.unavailable += 1;
                    away.insert(connector);
                }
            }
        }
        retried.fares.sort();
        retried.sent = sent.len() as u64;
        self.tell_outcomes(&sent, Duration::from_millis(body.wait_ms), &mut retried)?;
        Ok(retried)
    }

    /// Whoever attempts something does it alone.
    pub(super) fn try_one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.trying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a letter would fare now.
    pub(super) fn would_fare(&self, letter: &Letter) -> Result<Fate, DlqError> {
        if letter.letter.connector.is_some() {
            return Ok(Fate::Unknown { why: "its connector's server decides".to_owned() });
        }
        let (payloads, cut) = self.payloads(vec![letter.clone()])?;
        if !cut.is_empty() {
            return Ok(Fate::Unknown { why: CUT.to_owned() });
        }
        let begun = Instant::now();
        let over: Over = Arc::new(move || begun.elapsed() > PATIENCE);
        let mut told = None;
        let judged = Jury::new(&self.deployer, None, over)
            .and_then(|mut jury| jury.judge(&payloads, self.now_ms(), &mut |_, objection| told = objection));
        match judged {
            Ok(()) => Ok(told.map_or(Fate::Passes, Fate::Rejected)),
            Err(e @ (DlqError::NothingDeployed | DlqError::TooSlow)) => Ok(Fate::Unknown { why: e.to_string() }),
            Err(e) => Err(e),
        }
    }

    /// The letters whose payload is known whole, with it; and those of which it is not.
    pub(super) fn payloads(&self, letters: Vec<Letter>) -> Result<(Vec<Payload>, Vec<Letter>), DlqError> {
        let (mut known, mut cut) = (Vec::with_capacity(letters.len()), Vec::new());
        for letter in letters {
            let whole = match (&letter.edited, &letter.letter.payload) {
                (Some(edited), _) => Some(edited).filter(|edited| !edited.is_cut()).and_then(RawPayload::bytes),
                (None, payload) if payload.is_cut() => self.whole(&letter.letter.origin)?,
                (None, payload) => payload.bytes(),
            };
            match whole {
                Some(bytes) => known.push(Payload { letter, bytes }),
                None => cut.push(letter),
            }
        }
        Ok((known, cut))
    }

    /// The value of a letter's record in the input topic; none where it is gone.
    fn whole(&self, origin: &Origin) -> Result<Option<Vec<u8>>, DlqError> {
        let Origin::Record { topic, partition, offset } = origin else { return Ok(None) };
        let at = TopicPartition::new(topic.as_str(), *partition);
        let ends = self.broker.ends(&at)?;
        if *offset < ends.start || *offset >= ends.end {
            return Ok(None);
        }
        let mut value = None;
        if let Some(batch) = self.broker.fetch(&at, *offset, 1, Duration::ZERO)?.first() {
            visit_batch(&at, batch, *offset, &mut |at, record| {
                if at == *offset {
                    value = Some(record.value.to_vec());
                }
                Ok(())
            })?;
        }
        Ok(value)
    }

    /// Writes down that letters are on their way, and appends them to the input topic, each alone in its batch.
    pub(super) fn send(&self, mut letters: Vec<Payload>) -> Result<(), DlqError> {
        let mut desk = self.desk();
        let now_ms = desk.now_ms();
        for Payload { letter, .. } in &mut letters {
            let deployment = deployment_of(&self.deployer, letter);
            letter::sent(letter, deployment, now_ms);
        }
        // Written in part, or not at all: either way it is sent again.
        let written = desk.write_letters(letters.iter().map(|p| p.letter.clone()).collect());
        drop(desk);
        let sent = written.and_then(|()| self.append(&letters, now_ms));
        if sent.is_err() {
            self.unsent.store(true, Ordering::Relaxed);
        }
        sent
    }

    /// Appends retries of letters that are written down as sent. Doing so again harms nothing.
    pub(super) fn append(&self, letters: &[Payload], now_ms: i64) -> Result<(), DlqError> {
        let mut pending = Vec::new();
        for Payload { letter, bytes } in letters {
            let of = match &letter.letter.origin {
                Origin::Record { offset, .. } => RetryOf::Record { offset: *offset },
                Origin::Line { file, line, source } => RetryOf::Line { file, line: *line, source: *source },
            };
            let attempt = letter.attempts.last().map_or(1, |a| a.attempt);
            let mut set = RecordSetBuilder::default();
            set.push(Some(&Retry { of, attempt }.encode()), bytes, now_ms);
            pending.push(self.broker.append(&TopicPartition::new(AD_EVENTS_RAW, partition_of(letter)), &set)?);
        }
        pending.into_iter().try_for_each(|appended| appended.wait().map(drop))?;
        Ok(())
    }

    /// Offers a row to its connector again; whether that has answered. One that cannot be asked now has made no attempt. Nothing is
    /// held meanwhile: a server may take its time.
    pub(super) fn offer(&self, row: Row) -> Result<bool, DlqError> {
        let Row { letter: mut row, at } = row;
        let (Some(sinks), Some(connector)) = (self.sinks.get(), row.letter.connector.clone()) else {
            return Ok(false);
        };
        let Origin::Record { topic, partition, offset } = row.letter.origin.clone() else { return Ok(false) };
        let offered = sinks.offer(&connector, &TopicPartition::new(topic, partition), offset);
        let mut desk = self.desk();
        if desk.book.entry(&row.id).map(|entry| entry.at) != at {
            // Somebody else has offered it meanwhile, or wants no more of it.
            return Ok(true);
        }
        let now_ms = desk.now_ms();
        match offered {
            Offered::Accepted => letter::accepted(&mut row, Outcome::Accepted, now_ms),
            Offered::Superseded => letter::accepted(&mut row, Outcome::Superseded, now_ms),
            Offered::Refused(Objection { rule, message }) => {
                letter::refused(&mut row, None, (rule, message), &desk.policy, now_ms);
            }
            Offered::Unknown => {
                let id = &row.id;
                let why = format!(
                    "given up: no connector of this host is called {connector}; once one is, `clickmill dlq retry {id}`"
                );
                letter::given_up(&mut row, why, now_ms);
            }
            Offered::Unavailable(why) => {
                tracing::debug!(connector, id = %row.id, why, "a refused row cannot be offered again now");
                return Ok(false);
            }
        }
        desk.write_letters(vec![row])?;
        Ok(true)
    }

    /// Waits for what becomes of letters that were sent, and says it.
    pub(super) fn tell_outcomes(
        &self,
        sent: &[LetterId],
        patience: Duration,
        into: &mut Retried,
    ) -> Result<(), DlqError> {
        let begun = Instant::now();
        loop {
            let desk = self.up_to_date()?;
            if begun.elapsed() < patience && sent.iter().any(|id| desk.book.retrying().contains(id)) {
                drop(desk);
                std::thread::sleep(LOOK);
                continue;
            }
            for entry in sent.iter().filter_map(|id| desk.book.entry(id)) {
                match (entry.state, entry.outcome) {
                    (LetterState::Retrying, _) | (_, None) => into.under_way += 1,
                    (_, Some(outcome)) => *into.outcomes.entry(outcome.name().to_owned()).or_default() += 1,
                }
            }
            let mut named = desk.find_all(sent.iter().take(NAMED))?;
            let named = sent.iter().filter_map(|id| named.remove(id));
            into.letters.extend(named.map(|Letter { id, state, reason, .. }| RetriedLetter { id, state, reason }));
            return Ok(());
        }
    }
}
