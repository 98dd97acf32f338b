//! The logic of `speed-stock` on Clickmill's SDK, with its parser of ad events.

use clickmill_ad_event::{AdEvent, Int, Parser, Text};
use clickmill_sdk::{Module, Output, Params, Record};

pub struct SpeedSdk(Parser);

impl Module for SpeedSdk {
    fn init(_: &Params) -> Result<Self, String> {
        Ok(Self(Parser::default()))
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        if self.0.parse(record.value).is_ok_and(|event| passes(&event)) {
            out.forward(record, record.value);
        }
    }
}

fn passes(event: &AdEvent<'_>) -> bool {
    !event.text(Text::Id).is_empty()
        && (0..=1).contains(&event.int(Int::Click))
        && event.int(Int::BannerPos) >= 0
        && event.text(Text::SiteCategory) != b"50e219e0"
}

clickmill_sdk::export!(SpeedSdk);
