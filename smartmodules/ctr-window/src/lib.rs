//! `ctr-window`: counts what the stages before it let through in windows of event time.
//!
//! The rules are in `README.md` beside this crate; the files, from the ABI inwards:
//! - here: the module as the SDK knows it; routes for what is not counted,
//! - [`event`]: from a value to timestamp, metrics and keys; [`column`]: which keys there are,
//! - [`config`]: the parameters,
//! - [`windows`]: fates, panes, closing, emission; [`watermark`]: event time and the rule of the far future,
//! - [`pane`] and [`table`]: sums; [`emission`]: their encoding; [`state`]: saving and loading.
//!
//! It must not know batches, the clock, partitions or the host.

pub mod column;
pub mod config;
pub mod emission;
pub mod event;
pub mod pane;
pub mod state;
pub mod table;
pub mod watermark;
pub mod windows;

#[cfg(test)]
mod tests;

use clickmill_ad_event::Fault;
use clickmill_sdk::{Module, Output, Params, Record, RecordSet, Route, Stateful};

use crate::config::Config;
use crate::event::Events;
use crate::windows::{Fate, Windows};

/// The rule of a record that is too far ahead to be counted.
pub const TOO_FAR_AHEAD: &str = "too_far_ahead";

/// The module.
#[derive(Debug)]
pub struct CtrWindow {
    events: Events,
    windows: Windows,
}

impl Module for CtrWindow {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&Config::names())?;
        let config = Config::parse(|name| params.get(name)).map_err(|e| e.to_string())?;
        Ok(Self {
            events: Events::new(&config.columns, params.is_first()),
            windows: Windows::new(config),
        })
    }

    #[inline]
    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        let event = match self.events.read(record.value) {
            Ok(event) => event,
            Err(fault) => return reject(record, &fault, out),
        };
        let fate = self
            .windows
            .observe(event.ts_ms, &event.metrics, |column| event.key(column));
        if fate != Fate::Counted {
            route(record, event.ts_ms, fate, out);
        }
    }
}

#[cold]
fn reject(record: &Record<'_>, fault: &Fault, out: &mut Output) {
    let Fault {
        error_type,
        rule,
        message,
    } = fault;
    out.route(
        record,
        &Route::Error {
            error_type: *error_type,
            rule,
            message,
        },
    );
}

#[cold]
fn route(record: &Record<'_>, ts_ms: i64, fate: Fate, out: &mut Output) {
    match fate {
        Fate::Counted => {}
        Fate::Late { watermark_ms } => out.route(
            record,
            &Route::Late {
                ts_ms,
                watermark_ms,
            },
        ),
        Fate::TooFarAhead { watermark_ms } => {
            let watermark = watermark_ms.map_or("none yet".to_owned(), |ms| ms.to_string());
            let message = format!(
                "`ts` {ts_ms}: no room for a window so far ahead of the watermark ({watermark})"
            );
            reject(record, &Fault::schema(TOO_FAR_AHEAD, message), out);
        }
        Fate::BeforeTime => {
            let message = format!(
                "`ts` {ts_ms} is before the first window that there can be, {}",
                pane::FIRST_MS
            );
            reject(record, &Fault::schema(event::WINDOW_INPUT, message), out);
        }
    }
}

impl Stateful for CtrWindow {
    const STATE_VERSION: i32 = state::VERSION;

    fn save(&self, out: &mut Vec<u8>) {
        state::save(&self.windows, out);
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), String> {
        self.windows =
            state::load(self.windows.config().clone(), saved).map_err(|e| e.to_string())?;
        Ok(())
    }

    fn emit(&mut self, out: &mut RecordSet) {
        self.windows.emit(|key, value| out.push(key, value));
    }

    fn pending_bytes(&self) -> usize {
        self.windows.pending_bytes()
    }

    fn watermark(&self) -> Option<i64> {
        self.windows.watermark_ms()
    }

    fn closed_before(&self) -> Option<i64> {
        self.windows.closed_before_ms()
    }

    fn advance(&mut self, watermark_ms: i64) {
        self.windows.advance(watermark_ms);
    }
}

clickmill_sdk::export_stateful!(CtrWindow);
