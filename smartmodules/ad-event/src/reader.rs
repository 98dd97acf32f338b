//! Takes an event in either form: JSON, or Avro, which a first byte of 0 tells.

use crate::avro::put_event;
use crate::fault::Fault;
use crate::json::Parser;
use crate::view::AdEventView;

/// Reads events of a stream for a module that needs only some of their fields.
#[derive(Debug)]
pub struct Reader {
    parser: Parser,
    /// The Avro form of the last JSON.
    avro: Vec<u8>,
    first: bool,
}

impl Reader {
    /// A reader for the first module of a chain checks Avro whole; a later one believes the module before it.
    #[must_use]
    pub fn new(first: bool) -> Self {
        Self { parser: Parser::default(), avro: Vec::new(), first }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// The first rule that the value breaks, with its place.
    #[inline]
    pub fn read<'a>(&'a mut self, value: &'a [u8]) -> Result<AdEventView<'a>, Fault> {
        match (value.first(), self.first) {
            (Some(0), false) => AdEventView::new(value),
            (Some(0), true) => AdEventView::checked(value),
            _ => self.read_json(value),
        }
    }

    #[inline(never)]
    fn read_json(&mut self, value: &[u8]) -> Result<AdEventView<'_>, Fault> {
        let event = self.parser.parse(value)?;
        self.avro.clear();
        put_event(&mut self.avro, &event);
        AdEventView::new(&self.avro)
    }
}
