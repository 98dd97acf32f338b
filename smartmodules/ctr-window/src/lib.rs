//! `ctr-window`: counts what the stages before it let through in windows of event time.
//!
//! The rules are in `README.md` beside this crate; the files, from the ABI inwards:
//! - here: the module as the SDK knows it; routes for what is not counted,
//! - [`event`]: from an event to metrics and keys; [`column`]: which keys there are,
//! - [`config`]: the parameters,
//! - [`windows`]: fates, panes, closing, emission; [`watermark`]: event time and the rule of the far future,
//! - [`pane`], [`table`], [`probe`], [`metrics`]: sums by key; [`combine`]: the short way into them,
//! - [`emission`]: their encoding; [`state`]: saving and loading.
//!
//! It must not know batches, the clock, partitions or the host.

pub mod column;
pub mod combine;
pub mod config;
pub mod emission;
pub mod event;
pub mod metrics;
pub mod pane;
pub mod probe;
pub mod state;
pub mod table;
pub mod watermark;
pub mod windows;

#[cfg(test)]
mod tests;

use clickmill_ad_event::{Fault, Reader};
use clickmill_sdk::{Module, Output, Params, Record, RecordSet, Route, Stateful};

use crate::config::Config;
use crate::event::Needs;
use crate::windows::{Fate, Windows};

/// The rule of a record that is too far ahead to be counted.
pub const TOO_FAR_AHEAD: &str = "too_far_ahead";

/// The module.
#[derive(Debug)]
pub struct CtrWindow {
    reader: Reader,
    needs: Needs,
    windows: Windows,
}

impl Module for CtrWindow {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&Config::names())?;
        let config = Config::parse(|name| params.get(name)).map_err(|e| e.to_string())?;
        Ok(Self {
            reader: Reader::new(params.is_first()),
            needs: Needs::new(&config.columns),
            windows: Windows::new(config),
        })
    }

    #[inline]
    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        let view = match self.reader.read(record.value) {
            Ok(view) => view,
            Err(fault) => return reject(record, &event::unreadable(&fault), out),
        };
        let metrics = event::metrics(&view);
        if !self.needs.are_met(&view, &metrics) {
            return reject(record, &self.needs.fault(&view, &metrics), out);
        }
        let fate = self.windows.observe(view.ts_ms, &metrics, |column| event::key(&view, column));
        if fate != Fate::Counted {
            route(record, view.ts_ms, fate, out);
        }
    }
}

#[cold]
fn reject(record: &Record<'_>, fault: &Fault, out: &mut Output) {
    let Fault { error_type, rule, message } = fault;
    out.route(record, &Route::Error { error_type: *error_type, rule, message });
}

#[cold]
fn route(record: &Record<'_>, ts_ms: i64, fate: Fate, out: &mut Output) {
    match fate {
        Fate::Counted => {}
        Fate::Late { watermark_ms } => out.route(record, &Route::Late { ts_ms, watermark_ms }),
        Fate::TooFarAhead { watermark_ms } => {
            let watermark = watermark_ms.map_or("none yet".to_owned(), |ms| ms.to_string());
            let message = format!("`ts` {ts_ms}: no room for a window so far ahead of the watermark ({watermark})");
            reject(record, &Fault::schema(TOO_FAR_AHEAD, message), out);
        }
        Fate::BeforeTime => {
            let message = format!("`ts` {ts_ms} is before the first window that there can be, {}", pane::FIRST_MS);
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
        self.windows = state::load(self.windows.config().clone(), saved).map_err(|e| e.to_string())?;
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
