//! What becomes of a letter: pure steps from one state to the next. Nothing here reads a clock or a topic.

use std::time::Duration;

use clickmill_schemas::dead_letter::{DeadLetter, Origin, RawPayload};
use clickmill_schemas::dlq::{Attempt, Letter, LetterId, LetterState, Outcome};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::output::RetryFate;
use clickmill_schemas::{DeploymentId, Offset};

/// How often and when letters are tried again by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts before one is given up.
    pub attempts: u32,
    /// Wait before the first; each further one is twice as long.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 3, first_wait: Duration::from_secs(1), longest_wait: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// Milliseconds from a failure to attempt number `attempt`, from 1.
    pub(super) fn wait_ms(&self, attempt: u32) -> i64 {
        let factor = 1_u32 << attempt.saturating_sub(1).min(16);
        let wait = self.first_wait.saturating_mul(factor).min(self.longest_wait);
        i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Whether the same modules may judge the same bytes otherwise another time: a trap or a limit may have been the moment's,
/// and so may a server's refusal; a rule is none.
const fn may_pass(error_type: ErrorType) -> bool {
    matches!(error_type, ErrorType::Smartmodule | ErrorType::Sink)
}

/// A letter that has just been found.
pub(super) fn found(letter: DeadLetter, policy: &RetryPolicy) -> Letter {
    let at_ms = letter.error_timestamp_ms;
    let mut found = Letter {
        id: LetterId::of(&letter),
        state: LetterState::Dead,
        reason: String::new(),
        first_error_ms: at_ms,
        changed_at_ms: at_ms,
        due_at_ms: None,
        given_up_at_ms: None,
        attempts: Vec::new(),
        edited: None,
        letter,
    };
    settle_on(&mut found, policy, at_ms);
    found
}

/// After a rejection: waits for the next attempt, or is given up.
fn settle_on(letter: &mut Letter, policy: &RetryPolicy, now_ms: i64) {
    let made = letter.attempts.last().map_or(0, |a| a.attempt);
    let id = &letter.id;
    if may_pass(letter.letter.error_type) && made < policy.attempts {
        let next = made + 1;
        (letter.state, letter.given_up_at_ms) = (LetterState::Waiting, None);
        letter.due_at_ms = Some(now_ms.saturating_add(policy.wait_ms(next)));
        letter.reason = format!("attempt {next} of {} is due", policy.attempts);
        return;
    }
    letter.state = LetterState::Dead;
    (letter.due_at_ms, letter.given_up_at_ms) = (None, Some(now_ms));
    letter.reason = match (letter.letter.error_type, made) {
        (ErrorType::Sink, _) => {
            format!(
                "given up after {made} attempts: mend the table or the row's cause, then `clickmill dlq retry {id}`"
            )
        }
        (ErrorType::Smartmodule, _) => {
            format!("given up after {made} attempts: deploy a module that takes it, then `clickmill dlq retry {id}`")
        }
        _ => format!(
            "no retry mends it while modules and payload are the same: deploy a module that takes it or `clickmill dlq edit \
             {id}`, then `clickmill dlq retry {id}`"
        ),
    };
}

/// Number of the attempt that comes next.
pub(super) fn next_attempt(letter: &Letter) -> u32 {
    letter.attempts.last().map_or(0, |a| a.attempt).max(letter.letter.retry_count).saturating_add(1)
}

/// It is on its way into the input topic again.
pub(super) fn sent(letter: &mut Letter, deployment: Option<DeploymentId>, now_ms: i64) {
    let attempt = next_attempt(letter);
    let (rule, message) = (String::new(), String::new());
    letter.attempts.push(Attempt { attempt, at_ms: now_ms, deployment, outcome: Outcome::Sent, rule, message });
    (letter.state, letter.changed_at_ms) = (LetterState::Retrying, now_ms);
    (letter.due_at_ms, letter.given_up_at_ms) = (None, None);
    letter.reason = format!("attempt {attempt} is sent: what becomes of it is not known yet");
}

/// An attempt was rejected before it was sent.
pub(super) fn refused(
    letter: &mut Letter,
    deployment: Option<DeploymentId>,
    (rule, message): (String, String),
    policy: &RetryPolicy,
    now_ms: i64,
) {
    let attempt = next_attempt(letter);
    letter.attempts.push(Attempt { attempt, at_ms: now_ms, deployment, outcome: Outcome::Rejected, rule, message });
    letter.changed_at_ms = now_ms;
    settle_on(letter, policy, now_ms);
}

/// The connector's server has it now, or has no need of it.
pub(super) fn accepted(letter: &mut Letter, outcome: Outcome, now_ms: i64) {
    let attempt = next_attempt(letter);
    let (rule, message) = (String::new(), String::new());
    letter.attempts.push(Attempt { attempt, at_ms: now_ms, deployment: None, outcome, rule, message });
    resolve(letter, now_ms);
    letter.reason = match outcome {
        Outcome::Accepted => "the server has taken it".to_owned(),
        _ => "a newer version has taken its place: nothing is missing".to_owned(),
    };
}

/// There is nobody who could take it.
pub(super) fn given_up(letter: &mut Letter, why: String, now_ms: i64) {
    (letter.state, letter.changed_at_ms) = (LetterState::Dead, now_ms);
    (letter.due_at_ms, letter.given_up_at_ms) = (None, Some(now_ms));
    letter.reason = why;
}

fn resolve(letter: &mut Letter, now_ms: i64) {
    (letter.state, letter.changed_at_ms) = (LetterState::Resolved, now_ms);
    (letter.due_at_ms, letter.given_up_at_ms) = (None, None);
}

/// A retry was rejected again, by the stream. The payload of the first rejection is kept.
pub(super) fn rejected_again(letter: &mut Letter, again: DeadLetter, policy: &RetryPolicy) {
    let now_ms = again.error_timestamp_ms;
    let deployment = again.judged.as_ref().map(|judged| judged.deployment);
    let told = (again.rule.clone(), again.message.clone());
    conclude(letter, again.retry_count, (Outcome::Rejected, deployment), told, now_ms);
    let payload = std::mem::replace(&mut letter.letter.payload, RawPayload::new(b""));
    letter.letter = DeadLetter { payload, ..again };
    letter.changed_at_ms = now_ms;
    settle_on(letter, policy, now_ms);
}

/// A retry was judged, and not rejected.
pub(super) fn judged(letter: &mut Letter, (attempt, at): (u32, Offset), fate: RetryFate, now_ms: i64) {
    let was_resolved = letter.state == LetterState::Resolved;
    let outcome = match fate {
        RetryFate::Counted => Outcome::Counted,
        RetryFate::Late => Outcome::Late,
        RetryFate::Dropped => Outcome::Dropped,
        RetryFate::Repeated => Outcome::Repeated,
    };
    // Sent twice, by a process that was killed in between: the first one tells.
    let known = letter.attempts.iter().any(|a| a.attempt == attempt && a.outcome != Outcome::Sent);
    if fate == RetryFate::Repeated && (was_resolved || known) {
        return;
    }
    conclude(letter, attempt, (outcome, None), (String::new(), String::new()), now_ms);
    resolve(letter, now_ms);
    letter.reason = match fate {
        RetryFate::Counted => format!("counted, as offset {at}"),
        // What was rejected stays what it is: judged anew, it would be rejected once more.
        RetryFate::Late if letter.edited.is_some() || matches!(letter.letter.origin, Origin::Line { .. }) => format!(
            "late, as offset {at}: its window was closed when it came again; the daily batch counts it, and `clickmill \
             reprocess` does not, since it was repaired after the topic had it"
        ),
        RetryFate::Late => format!(
            "late, as offset {at}: its window was closed when it came again; `clickmill reprocess` with a module that takes \
             it counts it in its place, and so does the daily batch"
        ),
        RetryFate::Dropped => format!("filtered by a stage, as offset {at}"),
        RetryFate::Repeated => "it had been taken in before".to_owned(),
    };
}

/// Writes down what an attempt came to; one that nobody wrote down is added.
fn conclude(
    letter: &mut Letter,
    attempt: u32,
    (outcome, deployment): (Outcome, Option<DeploymentId>),
    (rule, message): (String, String),
    at_ms: i64,
) {
    match letter.attempts.iter_mut().find(|a| a.attempt == attempt) {
        Some(made) => {
            (made.outcome, made.rule, made.message) = (outcome, rule, message);
            made.deployment = deployment.or(made.deployment);
        }
        None => letter.attempts.push(Attempt { attempt, at_ms, deployment, outcome, rule, message }),
    }
}

/// Somebody has put another payload in the place of the rejected one.
pub(super) fn edited(letter: &mut Letter, payload: RawPayload, now_ms: i64) {
    letter.edited = Some(payload);
    (letter.state, letter.changed_at_ms) = (LetterState::Dead, now_ms);
    (letter.due_at_ms, letter.given_up_at_ms) = (None, None);
    letter.reason = format!("edited: `clickmill dlq retry {}` sends what it is now", letter.id);
}

#[cfg(test)]
pub(super) mod tests {
    use clickmill_schemas::PartitionId;

    use super::*;

    pub(in crate::dlq) fn letter(error_type: ErrorType, offset: u64) -> DeadLetter {
        DeadLetter {
            payload: RawPayload::new(b"{}"),
            error_type,
            rule: "rule".into(),
            message: "m".into(),
            retry_count: 0,
            error_timestamp_ms: 1_000,
            origin: Origin::Record { topic: "t".into(), partition: PartitionId(0), offset: Offset(offset) },
            judged: None,
            stacktrace: None,
            retried_at: None,
            connector: None,
        }
    }

    #[test]
    fn what_no_retry_mends_is_given_up_at_once_and_the_rest_after_three() {
        let policy = RetryPolicy::default();
        assert_eq!(found(letter(ErrorType::Parsing, 1), &policy).state, LetterState::Dead);
        let mut trap = found(letter(ErrorType::Smartmodule, 2), &policy);
        let mut dues = Vec::new();
        while trap.state == LetterState::Waiting {
            let due = trap.due_at_ms.unwrap();
            dues.push(due);
            refused(&mut trap, None, ("r".into(), "m".into()), &policy, due);
        }
        assert_eq!(dues, [2_000, 4_000, 8_000]);
        assert_eq!((trap.state, trap.attempts.len()), (LetterState::Dead, 3));
    }

    #[test]
    fn a_retry_that_was_sent_twice_is_told_once_in_whatever_order_its_fates_come() {
        let policy = RetryPolicy::default();
        let mut one = found(letter(ErrorType::Schema, 3), &policy);
        sent(&mut one, None, 5);
        judged(&mut one, (1, Offset(9)), RetryFate::Counted, 6);
        judged(&mut one, (1, Offset(10)), RetryFate::Repeated, 7);
        assert_eq!((one.state, one.attempts[0].outcome), (LetterState::Resolved, Outcome::Counted));
        assert!(one.reason.contains("offset 9"), "{}", one.reason);
    }

    #[test]
    fn a_retry_that_is_rejected_again_keeps_the_first_payload() {
        let policy = RetryPolicy::default();
        let mut one = found(letter(ErrorType::Schema, 3), &policy);
        edited(&mut one, RawPayload::new(b"new"), 4);
        sent(&mut one, None, 5);
        let again =
            DeadLetter { payload: RawPayload::new(b"new"), retry_count: 1, ..letter(ErrorType::Smartmodule, 3) };
        rejected_again(&mut one, again, &policy);
        assert_eq!(one.letter.payload, RawPayload::new(b"{}"));
        assert_eq!((one.state, one.attempts[0].outcome), (LetterState::Waiting, Outcome::Rejected));
    }
}
