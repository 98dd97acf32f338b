//! A single CSV row, by hand, as the event that `produce` makes of it.

use serde_json::{Map, Number, Value};

use super::hour::EpochHour;
use super::input::columns::{COLUMNS, IS_INTEGER, WIDTH};

/// The event of a row that stands alone: its time is the begin of its hour.
///
/// # Errors
/// Why it is no row, in words for whoever has written it.
pub fn event_of_line(line: &[u8]) -> Result<Vec<u8>, String> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(line);
    let row = reader.records().next().and_then(Result::ok).ok_or("it is no CSV row of UTF-8 text")?;
    if row.len() != WIDTH {
        return Err(format!("it has {} columns; a row has {WIDTH}: {}", row.len(), COLUMNS.join(",")));
    }
    let mut event = Map::new();
    for ((name, integer), field) in COLUMNS.iter().zip(IS_INTEGER).zip(&row) {
        let number = field.parse::<i64>().ok().filter(|number| integer && number.to_string() == field);
        let value = number.map_or_else(|| Value::String(field.to_owned()), |n| Value::Number(Number::from(n)));
        event.insert((*name).to_owned(), value);
    }
    let hour = COLUMNS.iter().position(|name| *name == "hour").and_then(|at| row.get(at)).unwrap_or_default();
    let hour = EpochHour::parse(hour.as_bytes()).ok_or_else(|| format!("`hour` is {hour:?}, and no YYMMDDHH"))?;
    event.insert("ts".to_owned(), hour.event_time_ms(0, 1).into());
    // An object of texts and numbers: serialization has no failing case.
    Ok(serde_json::to_vec(&event).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_event_at_the_begin_of_its_hour() {
        let line = b"10000169349117863715,0,14102100,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,96809ac8,711ee120,1,0,15704,320,50,1722,0,35,100084,79";
        let event: Value = serde_json::from_slice(&event_of_line(line).unwrap()).unwrap();
        assert_eq!(event["ts"], 1_413_849_600_000_i64);
        assert_eq!((&event["site_id"], &event["C1"]), (&Value::from("1fbe01fe"), &Value::from(1005)));
        assert!(event_of_line(b"a,b").unwrap_err().contains("2 columns"));
    }
}
