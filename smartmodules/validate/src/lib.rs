//! validate
use clickmill_sdk::{Module, Output, Params, Record};
pub struct Validate;
impl Module for Validate {
    fn init(_: &Params) -> Result<Self, String> {
        Ok(Self)
    }
    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        out.forward(record, record.value);
    }
}
clickmill_sdk::export!(Validate);
