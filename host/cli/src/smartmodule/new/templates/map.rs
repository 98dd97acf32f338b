//! Takes the white space around a value away, which some producers send.

use clickmill_sdk::{Module, Output, Params, Record};

pub struct Map;

impl Module for Map {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&[])?;
        Ok(Self)
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        out.forward(record, record.value.trim_ascii());
    }
}

clickmill_sdk::export!(Map);

#[cfg(test)]
mod tests {
    use clickmill_sdk::harness;

    use super::*;

    #[test]
    fn white_space_within_stays() {
        assert_eq!(harness::run::<Map>(&[], &[b" a b\r\n"]).unwrap()[0].value, b"a b");
    }
}
