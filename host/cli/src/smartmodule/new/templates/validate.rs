//! Rejects ad events whose banner stands where none should.

use clickmill_ad_event::{Fault, Reader};
use clickmill_sdk::{ErrorType, Module, Output, Params, Record, Route};

pub struct Validate {
    reader: Reader,
    max_banner_pos: i64,
}

impl Module for Validate {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&["max_banner_pos"])?;
        Ok(Self { reader: Reader::new(params.is_first()), max_banner_pos: params.parse("max_banner_pos", 7)? })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        match self.reader.read(record.value) {
            Ok(event) if event.banner_pos <= self.max_banner_pos => out.forward(record, record.value),
            Ok(event) => {
                let message = format!("banner_pos is {}, and at most {}", event.banner_pos, self.max_banner_pos);
                out.route(record, &Route::Error { error_type: ErrorType::Schema, rule: "banner_pos", message: &message });
            }
            Err(Fault { error_type, rule, message }) => {
                out.route(record, &Route::Error { error_type, rule, message: &message });
            }
        }
    }
}

clickmill_sdk::export!(Validate);

#[cfg(test)]
mod tests {
    use clickmill_sdk::harness;

    use super::*;

    #[test]
    fn what_is_no_event_is_rejected_by_its_rule() {
        let out = harness::run::<Validate>(&[], &[b"not json"]).unwrap();
        assert!(matches!(out[0].route(), Some(Route::Error { rule: "json", .. })));
    }

    #[test]
    fn a_parameter_that_it_does_not_know_is_refused() {
        assert!(harness::run::<Validate>(&[("max", "1")], &[]).is_err());
    }
}
