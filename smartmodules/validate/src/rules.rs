//! What is allowed in an event beyond its fields and types.

use clickmill_ad_event::fields::{FIELDS, Field};
use clickmill_ad_event::time::{DAY_MS, HOUR_MS, parse_date, parse_hour};
use clickmill_ad_event::{AdEvent, Fault, Int, Text, rule, shown};
use clickmill_sdk::Params;

/// Names of the rules of this module.
pub mod name {
    /// `id` is empty.
    pub const ID_EMPTY: &str = "id_empty";
    /// `hour` is not `YYMMDDHH`, or no such hour exists.
    pub const HOUR_FORMAT: &str = "hour_format";
    /// `ts` lies outside of `hour`.
    pub const TS_WITHIN_HOUR: &str = "ts_within_hour";
    /// `hour` lies outside of the dates that the parameters allow.
    pub const DATE_RANGE: &str = "date_range";
    /// A text is longer than the parameters allow.
    pub const STRING_TOO_LONG: &str = "string_too_long";
    /// A text has a NUL character, which databases do not take.
    pub const NUL_CHARACTER: &str = "nul_character";
}

/// Names of the parameters.
pub const PARAMS: [&str; 3] = ["date_from", "date_to", "max_string_bytes"];

const DEFAULT_MAX_STRING_BYTES: usize = 65_536;

/// The rules, as the parameters set them.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Start of the first allowed day, epoch milliseconds.
    from_ms: i64,
    /// Exclusive end of the last allowed day, epoch milliseconds.
    to_ms: i64,
    max_string_bytes: usize,
    /// The last `hour` and its start, since most events have that of the one before.
    last_hour: ([u8; 8], i64),
}

impl Rules {
    /// The rules that the parameters set.
    ///
    /// # Errors
    /// Names the parameter that is wrong.
    pub fn new(params: &Params) -> Result<Self, String> {
        let from_ms = date(params, "date_from")?.unwrap_or(i64::MIN);
        let to_ms = date(params, "date_to")?.map_or(i64::MAX, |start| start + DAY_MS);
        if from_ms >= to_ms {
            return Err("parameter `date_from` is after `date_to`: no event would be allowed".to_owned());
        }
        let max_string_bytes = params.parse("max_string_bytes", DEFAULT_MAX_STRING_BYTES)?;
        Ok(Self { from_ms, to_ms, max_string_bytes, last_hour: (*b"70010100", i64::MIN) })
    }

    /// Judges an event.
    ///
    /// # Errors
    /// The first rule that it breaks.
    #[inline]
    pub fn check(&mut self, event: &AdEvent<'_>) -> Result<(), Fault> {
        let hour_start = self.hour_start(event.text(Text::Hour));
        let ts = event.int(Int::Ts);
        let longest = event.longest_text();
        let allowed = event.int(Int::Click) >> 1 == 0
            && !event.text(Text::Id).is_empty()
            && longest <= self.max_string_bytes
            && hour_start.is_some_and(|start| (start..start + HOUR_MS).contains(&ts))
            && (self.from_ms..self.to_ms).contains(&ts)
            && !event.has_nul();
        if allowed { Ok(()) } else { Err(self.fault(event, hour_start)) }
    }

    #[inline]
    fn hour_start(&mut self, hour: &[u8]) -> Option<i64> {
        let (last, start) = self.last_hour;
        if hour == last && start != i64::MIN {
            return Some(start);
        }
        let start = parse_hour(hour)?;
        self.last_hour = (hour.try_into().ok()?, start);
        Some(start)
    }

    /// Which rule an event breaks that is not allowed.
    #[cold]
    fn fault(&self, event: &AdEvent<'_>, hour_start: Option<i64>) -> Fault {
        let (click, ts, hour) = (event.int(Int::Click), event.int(Int::Ts), shown(event.text(Text::Hour)));
        let texts = FIELDS.iter().filter_map(|(name, field)| match field {
            Field::Text(text) => Some((name, event.text(*text))),
            Field::Int(_) => None,
        });
        let longest = texts.clone().find(|(_, text)| text.len() > self.max_string_bytes);
        let with_nul = texts.clone().find(|(_, text)| text.contains(&0));
        let (rule, message) = if !(0..=1).contains(&click) {
            (rule::RANGE, format!("`click` must be 0 or 1, found {click}"))
        } else if event.text(Text::Id).is_empty() {
            (name::ID_EMPTY, "`id` must not be empty".to_owned())
        } else if let Some((field, text)) = longest {
            let limit = self.max_string_bytes;
            (name::STRING_TOO_LONG, format!("`{field}` has {} bytes, allowed are {limit}: {}", text.len(), shown(text)))
        } else if let Some((field, text)) = with_nul {
            (name::NUL_CHARACTER, format!("`{field}` must not have a NUL character: {}", shown(text)))
        } else if let Some(start) = hour_start {
            let end = start + HOUR_MS;
            if (start..end).contains(&ts) {
                (name::DATE_RANGE, format!("`hour` {hour} is outside of the expected dates"))
            } else {
                (name::TS_WITHIN_HOUR, format!("`ts` {ts} is not within `hour` {hour}: from {start} to before {end}"))
            }
        } else {
            (name::HOUR_FORMAT, format!("`hour` must be YYMMDDHH, found {hour}"))
        };
        Fault::schema(rule, message)
    }
}

/// The start of the day that a parameter names.
fn date(params: &Params, name: &str) -> Result<Option<i64>, String> {
    let Some(text) = params.get(name).map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    parse_date(text).map(Some).ok_or_else(|| format!("parameter `{name}`: `{text}` is not a date YYYY-MM-DD"))
}
