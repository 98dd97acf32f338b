//! Counts impressions and clicks in windows of one minute of event time. Stands last, where `ctr-window` does.
//!
//! What it knows is a function of the records alone, so that a replay counts the same: the watermark is 10 s behind the
//! greatest timestamp, and a window closes 60 s after the watermark has passed its end.

use std::collections::BTreeMap;

use clickmill_ad_event::{Fault, Reader};
use clickmill_schemas::partial::{Metrics, put_end, put_entry, put_guest_head, put_guest_key};
use clickmill_sdk::{Module, Output, Params, Record, RecordSet, Route, Stateful};

const SIZE_MS: i64 = 60_000;
const OUT_OF_ORDERNESS_MS: i64 = 10_000;
const LATENESS_MS: i64 = 60_000;
/// Bytes of a window in a saved state: its start, impressions and clicks.
const SAVED: usize = 24;

#[derive(Default)]
struct Sums {
    impressions: i64,
    clicks: i64,
    /// Since the last emission.
    changed: bool,
}

pub struct Window {
    reader: Reader,
    watermark_ms: Option<i64>,
    /// By their start; those that are closed stay until they have been given out.
    windows: BTreeMap<i64, Sums>,
}

impl Module for Window {
    fn init(params: &Params) -> Result<Self, String> {
        params.only(&[])?;
        Ok(Self { reader: Reader::new(params.is_first()), watermark_ms: None, windows: BTreeMap::new() })
    }

    fn record(&mut self, record: &Record<'_>, out: &mut Output) {
        let (ts_ms, click) = match self.reader.read(record.value) {
            Ok(event) => (event.ts_ms, event.click),
            Err(Fault { error_type, rule, message }) => {
                return out.route(record, &Route::Error { error_type, rule, message: &message });
            }
        };
        let start_ms = ts_ms.div_euclid(SIZE_MS) * SIZE_MS;
        if let (Some(watermark_ms), Some(closed_ms)) = (self.watermark_ms, self.closed_before())
            && start_ms + SIZE_MS <= closed_ms
        {
            return out.route(record, &Route::Late { ts_ms, watermark_ms });
        }
        let sums = self.windows.entry(start_ms).or_default();
        sums.impressions += 1;
        sums.clicks += click;
        sums.changed = true;
        self.advance(ts_ms - OUT_OF_ORDERNESS_MS);
    }
}

impl Stateful for Window {
    const STATE_VERSION: i32 = 1;

    fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.watermark_ms.unwrap_or(i64::MIN).to_le_bytes());
        for (start_ms, sums) in &self.windows {
            for number in [*start_ms, sums.impressions, sums.clicks] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    fn load(&mut self, state: &[u8]) -> Result<(), String> {
        let number = |bytes: &[u8], at: usize| Some(i64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let watermark_ms = number(state, 0).ok_or("it is cut short")?;
        self.watermark_ms = (watermark_ms != i64::MIN).then_some(watermark_ms);
        self.windows.clear();
        for saved in state[8..].chunks(SAVED) {
            let [Some(start_ms), Some(impressions), Some(clicks)] = [0, 8, 16].map(|at| number(saved, at)) else {
                return Err("it is cut short".into());
            };
            self.windows.insert(start_ms, Sums { impressions, clicks, changed: true });
        }
        Ok(())
    }

    fn emit(&mut self, out: &mut RecordSet) {
        for (start_ms, sums) in &mut self.windows {
            if !std::mem::take(&mut sums.changed) {
                continue;
            }
            let (mut key, mut value) = (Vec::new(), Vec::new());
            put_guest_key(&mut key, SIZE_MS, *start_ms, "total");
            put_guest_head(&mut value, false, 1);
            let (impressions, clicks) = (sums.impressions, sums.clicks);
            put_entry(&mut value, b"", &Metrics { impressions, clicks, ..Metrics::default() });
            put_end(&mut value);
            out.push(&key, &value);
        }
        if let Some(closed_ms) = self.closed_before() {
            self.windows.retain(|start_ms, _| start_ms + SIZE_MS > closed_ms);
        }
    }

    fn pending_bytes(&self) -> usize {
        let closed_ms = self.closed_before().unwrap_or(i64::MIN);
        self.windows.keys().take_while(|start_ms| *start_ms + SIZE_MS <= closed_ms).count() * 64
    }

    fn watermark(&self) -> Option<i64> {
        self.watermark_ms
    }

    fn closed_before(&self) -> Option<i64> {
        Some((self.watermark_ms? - LATENESS_MS).div_euclid(SIZE_MS) * SIZE_MS)
    }

    fn advance(&mut self, watermark_ms: i64) {
        self.watermark_ms = self.watermark_ms.max(Some(watermark_ms));
    }
}

clickmill_sdk::export_stateful!(Window);

#[cfg(test)]
mod tests {
    use clickmill_sdk::harness::Harness;

    use super::*;

    const EVENT: &[u8] = br#"{"id":"1","click":1,"hour":"14102100","C1":1005,"banner_pos":1,"site_id":"s","site_domain":"d","site_category":"c","app_id":"a","app_domain":"ad","app_category":"ac","device_id":"di","device_ip":"ip","device_model":"m","device_type":1,"device_conn_type":0,"C14":1,"C15":320,"C16":50,"C17":1,"C18":0,"C19":35,"C20":-1,"C21":79,"ts":1413849600000}"#;

    #[test]
    fn a_saved_state_goes_on_as_if_nothing_had_been() {
        let (mut one, mut other) = (Harness::<Window>::new(&[]).unwrap(), Harness::<Window>::new(&[]).unwrap());
        one.batch(&[EVENT, EVENT]).unwrap();
        let saved = one.guest.save().to_vec();
        other.guest.load(&saved).unwrap();
        for window in [&mut one, &mut other] {
            window.batch(&[EVENT]).unwrap();
        }
        assert_eq!(one.guest.save(), other.guest.save());
        assert_eq!(one.guest.emit(), other.guest.emit());
        assert!(other.guest.load(&saved[1..]).is_err());
    }
}
