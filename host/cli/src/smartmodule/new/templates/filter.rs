//! Hands on ad events that were clicked, and drops the others.

use clickmill_ad_event::Reader;
use clickmill_sdk::{Module, Output, Params, Record};

pub struct Filter {
    reader: Reader,
}

impl Module for Filter {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&[])?;
        Ok(Self { reader: Reader::new(params.is_first()) })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        match self.reader.read(record.value) {
            Ok(event) if event.click != 1 => {}
            // What is no event is for the stages behind this one to judge.
            _ => out.forward(record, record.value),
        }
    }
}

clickmill_sdk::export!(Filter);

#[cfg(test)]
mod tests {
    use clickmill_sdk::harness;

    use super::*;

    #[test]
    fn what_is_no_event_is_handed_on() {
        assert_eq!(harness::run::<Filter>(&[], &[b"not json"]).unwrap()[0].value, b"not json");
    }
}
