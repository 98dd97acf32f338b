//! Writes rows all at once; where the server refuses some for their own sake, finds them by halving and writes the others. Where
//! it refuses one after the other and takes none, the table is at fault and not they.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Range;

use futures_util::future::join;
use tokio_postgres::{Error, Transaction};

use super::link::{is_triggers_rule, rule, unavailable};
use crate::sink::{Refused, SinkError, Written};

/// Rows that can be written in any parts.
pub trait Rows {
    /// Number of them.
    fn len(&self) -> usize;

    /// Where a row's record lies.
    fn offset(&self, row: usize) -> clickmill_schemas::Offset;

    /// Writes some; how many the server took. What is sent before the first answer is sent when this is polled first.
    fn write(
        &self,
        transaction: &Transaction<'_>,
        rows: Range<usize>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;

    /// Whether a row that was refused by this rule can be written in another form, which it has from now on.
    fn change(&mut self, _row: usize, _rule: &str) -> bool {
        false
    }
}

/// A table that has refused so many rows one by one, and has taken none since, is not as it was made, or not as it should be.
const MOST_REFUSED: u64 = 20;
/// The same where a trigger refuses them: it may refuse whatever comes.
const MOST_BY_TRIGGERS: u64 = 2;

/// How many rows each table has refused one by one since the last batch of which it took one. Kept over a sink's sessions.
#[derive(Debug, Default)]
pub struct Refusals {
    committed: BTreeMap<&'static str, u64>,
    now: BTreeMap<&'static str, u64>,
}

impl Refusals {
    /// A batch begins: what one that was taken back has met is met again.
    pub fn begin(&mut self) {
        self.now.clone_from(&self.committed);
    }

    /// The batch is committed.
    pub fn keep(&mut self) {
        self.committed.clone_from(&self.now);
    }
}

/// The part before is in.
const NEXT: &str = "RELEASE part; SAVEPOINT part";
/// The part before was refused.
const BACK: &str = "ROLLBACK TO part";

/// Writes all rows but those that are refused. They are noted in `written` once the table has taken others: of an attempt that is cut
/// off in the middle they are what the next one need not find again ([`Written::begin_anew`]).
///
/// # Errors
/// [`SinkError::Unavailable`] where the rows are not at fault.
pub async fn write_all(
    transaction: &Transaction<'_>,
    rows: &mut impl Rows,
    doing: &'static str,
    (written, refusals): (&mut Written, &mut Refusals),
) -> Result<(), SinkError> {
    let (mut todo, mut before, mut is_taken) = (Vec::new(), "SAVEPOINT part", false);
    // Held back until it is known that they are at fault.
    let mut refused: Vec<Refused> = Vec::new();
    let in_a_row = refusals.now.entry(doing).or_default();
    if rows.len() > 0 {
        todo.push(0..rows.len());
    }
    while let Some(range) = todo.pop() {
        // Sent in this order, and answered at once.
        let sent = join(transaction.batch_execute(before), rows.write(transaction, range.clone()));
        let (saved, result) = sent.await;
        saved.map_err(unavailable(doing))?;
        match result {
            Ok(n) => {
                written.rows += n;
                (before, is_taken, *in_a_row) = (NEXT, true, 0);
                refused.drain(..).for_each(|Refused { offset, rule, message }| written.refuse(offset, rule, message));
            }
            Err(e) => {
                let Some(rule) = rule(&e) else { return Err(unavailable(doing)(e)) };
                before = BACK;
                if range.len() > 1 {
                    let middle = range.start + range.len() / 2;
                    todo.extend([middle..range.end, range.start..middle]);
                } else if rows.change(range.start, &rule) {
                    todo.push(range);
                } else {
                    let message = unavailable(doing)(e).chain().replace('\n', "; ");
                    let offset = rows.offset(range.start);
                    if is_taken {
                        written.refuse(offset, rule, message);
                    } else {
                        *in_a_row += 1;
                        refused.push(Refused { offset, rule, message });
                    }
                }
            }
        }
    }
    if let (Some(last), false) = (refused.last(), is_taken) {
        let most = if is_triggers_rule(&last.rule) { MOST_BY_TRIGGERS } else { MOST_REFUSED };
        if *in_a_row >= most {
            let why =
                format!("{}: so for {in_a_row} rows in a row, and it is held to be the table's fault", last.message);
            return Err(SinkError::unavailable(doing, why));
        }
    }
    refused.into_iter().for_each(|Refused { offset, rule, message }| written.refuse(offset, rule, message));
    if before == BACK {
        transaction.batch_execute(BACK).await.map_err(unavailable(doing))?;
    }
    Ok(())
}
