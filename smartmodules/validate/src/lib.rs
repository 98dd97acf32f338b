//! The first SmartModule of the chain: JSON or Avro in, Avro out; what breaks a rule is routed with the rule's name.
//!
//! [`rules`] has what is allowed beyond fields and types, which are `clickmill-ad-event`'s matter. Nothing is remembered
//! from record to record that could change an outcome.

mod rules;

use clickmill_ad_event::{Fault, Parser, avro};
use clickmill_sdk::{Module, Output, Params, Record, Route};

pub use rules::Rules;

/// The module.
#[derive(Debug)]
pub struct Validate {
    parser: Parser,
    rules: Rules,
}

impl Validate {
    /// Appends the Avro form of a value that is allowed.
    #[inline]
    fn convert(&mut self, value: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        if value.first() == Some(&0) {
            self.rules.check(&avro::decode(value)?)?;
            out.extend_from_slice(value);
            return Ok(());
        }
        let mut unescaped = String::new();
        let event = self.parser.parse(value, &mut unescaped)?;
        self.rules.check(&event)?;
        avro::put_event(out, &event);
        Ok(())
    }
}

impl Module for Validate {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&rules::PARAMS)?;
        Ok(Self {
            parser: Parser::default(),
            rules: Rules::new(params)?,
        })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        if let Err(fault) = out.forward_with(record, |bytes| self.convert(record.value, bytes)) {
            let Fault {
                error_type,
                rule,
                message,
            } = &fault;
            out.route(
                record,
                &Route::Error {
                    error_type: *error_type,
                    rule,
                    message,
                },
            );
        }
    }
}

clickmill_sdk::export!(Validate);

#[cfg(test)]
mod tests;
