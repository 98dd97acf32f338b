//! The module's state as bytes: what a checkpoint holds, what a swap hands to the next version.
//!
//! Owns the encoding and its checks. Layout (numbers are zigzag varints, texts have their length before them): 8 bytes
//! FNV-1a of the rest; the parameters' fingerprint; the watermark; the remembered timestamps, each less the one
//! before; the panes; the closed windows that were not emitted yet. Which windows changed is not in it: after a load
//! every open one counts as changed. Loading gives an error for any bytes that [`save`] did not write.

use clickmill_schemas::partial::Metrics;
use clickmill_schemas::record::{put_varint, take_varint};

use crate::column::Kind;
use crate::config::{Config, PANE_MS};
use crate::emission::Partials;
use crate::pane::{END_MS, FIRST_MS, Pane};
use crate::probe::Key;
use crate::table::Table;
use crate::watermark::Watermark;
use crate::windows::Windows;

/// Version of the layout, and of the rules that decide what a state means.
pub const VERSION: i32 = 1;

/// A state that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    #[error("the state's checksum does not match: it is cut short or damaged; restore an older checkpoint")]
    Checksum,
    #[error(
        "the state was made with other parameters, so its windows would not add up. It has: {saved}. This module was \
         given: {given}. Deploy with the former parameters, or reset the windows' state"
    )]
    Parameters { saved: String, given: String },
    #[error("the state is malformed: {what} at byte {position}")]
    Malformed { what: &'static str, position: usize },
}

/// Appends the state.
pub fn save(windows: &Windows, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; CHECKSUM_LEN]);
    put_text(out, windows.config.fingerprint().as_bytes());
    let watermark_ms = windows.watermark.get();
    out.push(u8::from(watermark_ms.is_some()));
    put_varint(out, watermark_ms.unwrap_or_default());
    put_varint(out, windows.watermark.recent().len() as i64);
    let mut before = 0;
    for ts_ms in windows.watermark.recent() {
        put_varint(out, ts_ms.wrapping_sub(before));
        before = ts_ms;
    }
    put_varint(out, windows.held().len() as i64);
    for pane in windows.held() {
        put_pane(out, &pane);
    }
    windows.closed_panes.save(out);
    windows.closed_spans.save(out);
    let checksum = fnv1a(&out[start + CHECKSUM_LEN..]);
    out[start..start + CHECKSUM_LEN].copy_from_slice(&checksum.to_be_bytes());
}

fn put_pane(out: &mut Vec<u8>, pane: &Pane) {
    put_varint(out, pane.start_ms / PANE_MS);
    if pane.tables.is_empty() {
        put_metrics(out, &pane.lone_total);
    }
    for table in &pane.tables {
        out.push(u8::from(table.overflow().is_some()));
        if let Some(overflow) = table.overflow() {
            put_metrics(out, overflow);
        }
        put_varint(out, table.rows().len() as i64);
        for (key, sums) in table.rows() {
            put_text(out, key);
            put_metrics(out, sums);
        }
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_varint(out, text.len() as i64);
    out.extend_from_slice(text);
}

fn put_metrics(out: &mut Vec<u8>, m: &Metrics) {
    for v in [m.impressions, m.clicks, m.conversions, m.cost_micros, m.revenue_micros] {
        put_varint(out, v);
    }
}

/// The windows that a state holds, to go on with under the same parameters.
///
/// # Errors
/// [`BadState`] where the parameters are others or `bytes` are not what [`save`] wrote.
pub fn load(config: Config, bytes: &[u8]) -> Result<Windows, BadState> {
    let (checksum, body) = bytes.split_first_chunk::<CHECKSUM_LEN>().ok_or(BadState::Checksum)?;
    if u64::from_be_bytes(*checksum) != fnv1a(body) {
        return Err(BadState::Checksum);
    }
    let mut reader = Reader { bytes: body, at: 0 };
    let (saved, given) = (reader.text("parameters")?, config.fingerprint());
    if saved != given.as_bytes() {
        return Err(BadState::Parameters { saved: String::from_utf8_lossy(saved).into_owned(), given });
    }
    let watermark = take_watermark(&mut reader, &config)?;
    let mut panes: Vec<Pane> = Vec::new();
    for _ in 0..reader.count("pane count")? {
        let pane = take_pane(&mut reader, &config)?;
        let in_order = panes.last().is_none_or(|before| before.start_ms < pane.start_ms);
        if !in_order || pane.span_end_ms() <= watermark.closed_before() {
            return Err(reader.malformed("a pane out of order"));
        }
        panes.push(pane);
    }
    let mut take_closed = || Partials::load(body, &mut reader.at).ok_or("closed windows");
    let closed = take_closed().and_then(|panes| Ok([panes, take_closed()?]));
    let closed = closed.map_err(|what| reader.malformed(what))?;
    if reader.at != body.len() {
        return Err(reader.malformed("bytes left over"));
    }
    Ok(Windows::resume(config, watermark, panes, closed))
}

fn take_watermark(reader: &mut Reader<'_>, config: &Config) -> Result<Watermark, BadState> {
    let set = reader.flag("watermark flag")?;
    let value = reader.number("watermark")?;
    let count = reader.count("count of timestamps")?;
    let mut recent = Vec::new();
    let mut before = 0i64;
    for _ in 0..count {
        before = before.wrapping_add(reader.number("timestamp")?);
        recent.push(before);
    }
    Watermark::restore(config.watermark, set.then_some(value), &recent)
        .ok_or_else(|| reader.malformed("a watermark or timestamps out of range"))
}

fn take_pane(reader: &mut Reader<'_>, config: &Config) -> Result<Pane, BadState> {
    let start = reader.number("pane")?.checked_mul(PANE_MS).filter(|ms| (FIRST_MS..END_MS).contains(ms));
    let start_ms = start.ok_or_else(|| reader.malformed("a pane beyond time"))?;
    let mut pane = Pane::new(start_ms, config.columns.len());
    if pane.tables.is_empty() {
        pane.lone_total = reader.metrics()?;
    }
    for (table, column) in pane.tables.iter_mut().zip(&config.columns) {
        take_table(reader, table, column.kind())?;
    }
    Ok(pane)
}

fn take_table(reader: &mut Reader<'_>, table: &mut Table, kind: Kind) -> Result<(), BadState> {
    if reader.flag("overflow flag")? {
        table.restore_overflow(reader.metrics()?);
    }
    for _ in 0..reader.count("row count")? {
        let text = reader.text("key")?;
        let utf8 = std::str::from_utf8(text).map_err(|_| reader.malformed("a key that is not UTF-8"))?;
        let key = match kind {
            Kind::Text => Key::Text(text),
            Kind::Integer => {
                let value = utf8.parse::<i64>().ok().filter(|value| value.to_string() == utf8);
                Key::Integer(value.ok_or_else(|| reader.malformed("a key that is not an integer"))?)
            }
        };
        let sums = reader.metrics()?;
        if !table.restore_row(key, text, sums) {
            return Err(reader.malformed("a key that is there twice"));
        }
    }
    Ok(())
}

const CHECKSUM_LEN: usize = 8;

/// Finds every change of a single byte: each step is a bijection of the state before.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Walks a state; every read says what it was about where it fails.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    const fn malformed(&self, what: &'static str) -> BadState {
        BadState::Malformed { what, position: CHECKSUM_LEN + self.at }
    }

    fn number(&mut self, what: &'static str) -> Result<i64, BadState> {
        take_varint(self.bytes, &mut self.at).ok_or_else(|| self.malformed(what))
    }

    fn count(&mut self, what: &'static str) -> Result<u64, BadState> {
        u64::try_from(self.number(what)?).map_err(|_| self.malformed(what))
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, BadState> {
        let flag = match self.bytes.get(self.at) {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(self.malformed(what)),
        };
        self.at += 1;
        Ok(flag)
    }

    fn text(&mut self, what: &'static str) -> Result<&'a [u8], BadState> {
        let len = usize::try_from(self.count(what)?).map_err(|_| self.malformed(what))?;
        let end = self.at.checked_add(len).ok_or_else(|| self.malformed(what))?;
        let text = self.bytes.get(self.at..end).ok_or_else(|| self.malformed(what))?;
        self.at = end;
        Ok(text)
    }

    fn metrics(&mut self) -> Result<Metrics, BadState> {
        Ok(Metrics {
            impressions: self.number("impressions")?,
            clicks: self.number("clicks")?,
            conversions: self.number("conversions")?,
            cost_micros: self.number("cost")?,
            revenue_micros: self.number("revenue")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::column::Column;

    const ONE: Metrics = Metrics { impressions: 1, clicks: 0, conversions: 0, cost_micros: 3, revenue_micros: 0 };

    fn config(max_keys: &'static str) -> Config {
        Config::parse(|name| match name {
            "dimensions" => Some("total,site_category,device_type"),
            "max_keys" => Some(max_keys),
            _ => None,
        })
        .unwrap()
    }

    /// Holds a bit of everything: open and closed panes, an overflow, a far pane, closed windows not emitted yet.
    fn saved() -> Vec<u8> {
        let mut windows = Windows::new(config("2"));
        for i in 0..40i64 {
            let site_category = ["a", "eleven byte", "c"][i as usize % 3];
            windows.observe(i * 10_000, &ONE, |column| match column {
                Column::SiteCategory => Key::Text(site_category.as_bytes()),
                _ => Key::Integer(i % 2),
            });
        }
        windows.observe(i64::MAX / 2, &ONE, |_| Key::Integer(7));
        let mut out = Vec::new();
        save(&windows, &mut out);
        assert!(windows.pending_bytes() > 0);
        out
    }

    #[test]
    fn a_state_with_any_byte_changed_or_cut_off_is_refused() {
        let saved = saved();
        assert!(load(config("2"), &saved).is_ok());
        for at in 0..saved.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = saved.clone();
                changed[at] ^= change;
                assert_eq!(load(config("2"), &changed).unwrap_err(), BadState::Checksum, "byte {at}");
            }
            assert_eq!(load(config("2"), &saved[..at]).unwrap_err(), BadState::Checksum);
        }
    }

    #[test]
    fn a_state_of_other_parameters_is_refused_with_both() {
        let message = load(config("3"), &saved()).unwrap_err().to_string();
        assert!(message.contains("max_keys=2") && message.contains("max_keys=3"), "{message}");
    }

    /// `body` behind its right checksum.
    fn sealed(body: &[u8]) -> Vec<u8> {
        [&fnv1a(body).to_be_bytes(), body].concat()
    }

    #[test]
    fn a_state_that_was_changed_with_its_checksum_is_malformed_or_sound_but_no_panic() {
        let saved = saved();
        let mut malformed = 0;
        for at in CHECKSUM_LEN..saved.len() {
            for change in [1, 0x02, 0x80, 0xff] {
                let mut body = saved[CHECKSUM_LEN..].to_vec();
                body[at - CHECKSUM_LEN] ^= change;
                match load(config("2"), &sealed(&body)) {
                    Err(_) => malformed += 1,
                    Ok(mut windows) => {
                        windows.observe(500_000, &ONE, |_| Key::Integer(1));
                        windows.advance(i64::MAX);
                        windows.emit(|_, _| ());
                    }
                }
            }
        }
        assert!(malformed > saved.len(), "the loader finds structure, too: {malformed}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_loader_panic(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = Vec::new();
            put_text(&mut body, config("2").fingerprint().as_bytes());
            body.extend_from_slice(&tail);
            let _ = load(config("2"), &sealed(&body));
            prop_assert!(load(config("2"), &tail).is_err());
        }
    }
}
