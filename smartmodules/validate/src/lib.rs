//! The first SmartModule of the chain: JSON or Avro in, Avro out; what breaks a rule is routed with the rule's name.
//!
//! [`rules`] has what is allowed beyond fields and types, which are `clickmill-ad-event`'s matter. Nothing is remembered
//! from record to record that could change an outcome.

mod rules;

use clickmill_ad_event::{Fault, Parser, Slots, avro};
use clickmill_sdk::{Module, Output, Params, Record, Route};

pub use rules::Rules;

/// The module.
#[derive(Debug)]
pub struct Validate {
    parser: Parser,
    rules: Rules,
}

impl Validate {
    /// Hands on the Avro form of a value that is allowed.
    #[inline]
    fn forward(&mut self, record: &Record<'_>, out: &mut Output) -> Result<(), Fault> {
        if record.value.first() == Some(&0) {
            self.rules.check(&avro::decode(record.value, &mut Slots::default())?)?;
            out.forward(record, record.value);
            return Ok(());
        }
        let event = self.parser.parse(record.value)?;
        self.rules.check(&event)?;
        out.forward_into(record, avro::max_event_len(&event), |room| avro::write_event(room, &event));
        Ok(())
    }
}

impl Module for Validate {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&rules::PARAMS)?;
        Ok(Self { parser: Parser::default(), rules: Rules::new(params)? })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        if let Err(Fault { error_type, rule, message }) = self.forward(record, out) {
            out.route(record, &Route::Error { error_type, rule, message: &message });
        }
    }
}

clickmill_sdk::export!(Validate);

#[cfg(test)]
mod schema_file;
#[cfg(test)]
mod tests;
