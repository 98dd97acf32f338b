//! Writes rows all at once; where the server refuses some for their own sake, finds them by halving and writes the others.

use std::future::Future;
use std::ops::Range;

use tokio_postgres::{Error, Transaction};

use super::link::{rule, unavailable};
use crate::sink::{SinkError, Written};

/// Rows that can be written in any parts.
pub trait Rows {
    /// Number of them.
    fn len(&self) -> usize;

    /// Where a row's record lies.
    fn offset(&self, row: usize) -> clickmill_schemas::Offset;

    /// Writes some; how many the server took.
    fn write(&self, savepoint: &Transaction<'_>, rows: Range<usize>)
    -> impl Future<Output = Result<u64, Error>> + Send;

    /// Whether a row that was refused by this rule can be written in another form, which it has from now on.
    fn change(&mut self, _row: usize, _rule: &str) -> bool {
        false
    }
}

/// Writes all rows but those that are refused, which are noted in `written` as they are found: of an attempt that is cut off in the
/// middle they are what the next one need not find again ([`Written::begin_anew`]).
///
/// # Errors
/// [`SinkError::Unavailable`] where the rows are not at fault.
pub async fn write_all(
    transaction: &mut Transaction<'_>,
    rows: &mut impl Rows,
    doing: &'static str,
    written: &mut Written,
) -> Result<(), SinkError> {
    let mut todo: Vec<Range<usize>> = Vec::new();
    if rows.len() > 0 {
        todo.push(0..rows.len());
    }
    while let Some(range) = todo.pop() {
        let savepoint = transaction.transaction().await.map_err(unavailable(doing))?;
        match rows.write(&savepoint, range.clone()).await {
            Ok(n) => {
                written.rows += n;
                savepoint.commit().await.map_err(unavailable(doing))?;
            }
            Err(e) => {
                let Some(rule) = rule(&e) else { return Err(unavailable(doing)(e)) };
                savepoint.rollback().await.map_err(unavailable(doing))?;
                if range.len() > 1 {
                    let middle = range.start + range.len() / 2;
                    todo.extend([middle..range.end, range.start..middle]);
                } else if rows.change(range.start, &rule) {
                    todo.push(range);
                } else {
                    let message = unavailable(doing)(e).chain().replace('\n', "; ");
                    written.refuse(rows.offset(range.start), rule, message);
                }
            }
        }
    }
    Ok(())
}
