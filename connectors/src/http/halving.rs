//! Which parts of a batch are still to be sent, and what became of the others. Pure.

use std::collections::VecDeque;
use std::ops::Range;

use clickmill_schemas::Offset;
use tokio::time::Instant;

use super::records::Item;
use crate::sink::Written;

/// An endpoint that refuses so many records one after the other, over batches too, is not in order itself: no record more is given
/// up for that.
const ALL_REFUSED: u64 = 20;

/// A batch that is being sent, in parts where it was refused as a whole.
pub struct Halving {
    /// Of the batch.
    pub key: String,
    pub begun: Instant,
    /// Still to be sent, the first at the back.
    todo: VecDeque<Range<Offset>>,
    pub written: Written,
    /// Why the last one was refused.
    pub refused: String,
    /// Records that were refused before this batch, since one was taken.
    before: u64,
}

impl Halving {
    pub fn new(key: String, all: Range<Offset>, before: u64) -> Self {
        let (written, refused) = (Written::default(), String::new());
        Self { key, begun: Instant::now(), todo: VecDeque::from([all]), written, refused, before }
    }

    /// The next part to be sent. They come in order; but where none of the first ones is taken, one that is may be at the end.
    pub fn next_part(&mut self) -> Option<Range<Offset>> {
        if self.nothing_is_taken() { self.todo.pop_front() } else { self.todo.pop_back() }
    }

    /// The last one is still to be sent.
    pub fn put_back(&mut self, part: Range<Offset>) {
        if self.nothing_is_taken() { self.todo.push_front(part) } else { self.todo.push_back(part) }
    }

    /// The last one is to be sent in two parts.
    pub fn halve(&mut self, part: &Range<Offset>, middle: Offset) {
        let (first, second) = (part.start..middle, middle..part.end);
        if self.nothing_is_taken() {
            self.todo.push_front(first);
            self.todo.push_front(second);
        } else {
            self.todo.push_back(second);
            self.todo.push_back(first);
        }
    }

    /// Whether all that was answered so far speaks for the endpoint's own fault.
    pub const fn nothing_is_taken(&self) -> bool {
        self.in_a_row() >= ALL_REFUSED
    }

    /// Records that were refused since one was taken; of this batch, where one was, none: which of them came after it nobody asks.
    pub const fn in_a_row(&self) -> u64 {
        if self.written.rows == 0 { self.before + self.written.skipped } else { 0 }
    }
}

/// The records of a part.
pub fn within<'a>(items: &'a [Item], part: &Range<Offset>) -> &'a [Item] {
    let index = |offset| items.partition_point(|item| item.offset < offset);
    &items[index(part.start)..index(part.end)]
}
