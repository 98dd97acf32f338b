//! Single fields of an event in its Avro form, without the rest.
//!
//! What `enrich` and `ctr-window` need of every event stands first in the schema, and what `enrich` appended last, where
//! it is read backwards: so neither steps over the 17 fields between.

use clickmill_schemas::avro::{schema_id, split};
use clickmill_schemas::record::take_varint;

use crate::avro::{MAX_LONG, decode_body, left_over, malformed, other_schema, take_bytes, write_long};
use crate::event::Slots;
use crate::fault::Fault;
use crate::fields::{FIELDS, Field};

/// The fields of an event that come first, read, and the bytes of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdEventView<'a> {
    pub click: i64,
    /// Epoch milliseconds.
    pub ts_ms: i64,
    pub banner_pos: i64,
    pub device_type: i64,
    pub id: &'a [u8],
    pub site_category: &'a [u8],
    pub app_category: &'a [u8],
    schema_id: u32,
    body: &'a [u8],
}

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValue<'a> {
    Text(&'a [u8]),
    Int(i64),
}

/// What `enrich` appends to an event, in the order of `ad_event_enriched.avsc`. Money is in micros of the currency unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enriched<'a> {
    pub device_class: &'a [u8],
    /// 0 to 23, UTC.
    pub hour_of_day: i64,
    /// 0 is Monday.
    pub weekday: i64,
    pub conversion: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

impl Enriched<'_> {
    /// Room that [`Enriched::write`] needs: never less than its length.
    #[must_use]
    #[inline]
    pub const fn max_len(&self) -> usize {
        6 * MAX_LONG + self.device_class.len() + 8
    }

    /// Appends the fields.
    pub fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.max_len(), 0);
        let len = self.write(&mut out[start..]);
        out.truncate(start + len);
    }

    /// Writes the fields to the front of `room`, and returns their length. What lies behind it is overwritten.
    ///
    /// # Panics
    /// Where `room` is shorter than [`Enriched::max_len`].
    #[inline]
    pub fn write(&self, room: &mut [u8]) -> usize {
        let class_at = write_long(room, 0, self.device_class.len() as i64);
        let mut at = class_at + self.device_class.len();
        room[class_at..at].copy_from_slice(self.device_class);
        for value in [self.hour_of_day, self.weekday, self.conversion, self.cost_micros, self.revenue_micros] {
            at = write_long(room, at, value);
        }
        at
    }
}

impl<'a> AdEventView<'a> {
    /// Reads the first fields of an event, enriched or not, and believes the rest. A value that is not one gives an
    /// error or wrong fields, and never a panic.
    ///
    /// # Errors
    /// The rule `avro`, where the first fields cannot be read.
    #[inline]
    pub fn new(value: &'a [u8]) -> Result<Self, Fault> {
        let (schema_id, body) = match split(value) {
            Some((id @ (schema_id::AD_EVENT | schema_id::AD_EVENT_ENRICHED), body)) => (id, body),
            other => {
                return Err(other_schema(other.map(|(id, _)| id), schema_id::AD_EVENT_ENRICHED));
            }
        };
        Self::read(schema_id, body).ok_or_else(|| malformed("the first fields", 0))
    }

    #[inline]
    fn read(schema_id: u32, body: &'a [u8]) -> Option<Self> {
        let at = &mut 0;
        Some(Self {
            click: take_varint(body, at)?,
            ts_ms: take_varint(body, at)?,
            banner_pos: take_varint(body, at)?,
            device_type: take_varint(body, at)?,
            id: take_bytes(body, at)?,
            site_category: take_bytes(body, at)?,
            app_category: take_bytes(body, at)?,
            schema_id,
            body,
        })
    }

    /// The same with every check on the whole value.
    ///
    /// # Errors
    /// The rule `avro`, with the field and the position.
    pub fn checked(value: &'a [u8]) -> Result<Self, Fault> {
        let view = Self::new(value)?;
        let mut at = decode_body(view.body, &mut Slots::default())?;
        if view.is_enriched() {
            view.enriched_at(&mut at).ok_or_else(|| malformed("the enriched fields", at))?;
        }
        left_over(view.body, at)?;
        Ok(view)
    }

    /// Whether it carries the fields that `enrich` appends.
    #[must_use]
    pub const fn is_enriched(&self) -> bool {
        self.schema_id == schema_id::AD_EVENT_ENRICHED
    }

    /// The Avro body, without the header.
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Conversion, cost and revenue (micros): 0 where it is not enriched.
    #[must_use]
    #[inline]
    pub fn money(&self) -> Money {
        if !self.is_enriched() {
            return Money::default();
        }
        // Read backwards: a byte without the high bit ends a varint, and what stands before these three, the weekday,
        // is one too.
        let mut end = self.body.len();
        let revenue_micros = take_varint_before(self.body, &mut end);
        let cost_micros = take_varint_before(self.body, &mut end);
        Money { conversion: take_varint_before(self.body, &mut end), cost_micros, revenue_micros }
    }

    /// Any field of the event, stepping over those before it.
    #[must_use]
    pub fn field(&self, wanted: Field) -> Option<FieldValue<'a>> {
        let mut at = 0;
        for (_, field) in FIELDS {
            let value = match field {
                Field::Text(_) => FieldValue::Text(take_bytes(self.body, &mut at)?),
                Field::Int(_) => FieldValue::Int(take_varint(self.body, &mut at)?),
            };
            if field == wanted {
                return Some(value);
            }
        }
        None
    }

    /// All fields that `enrich` appends; `None` where it is not enriched.
    #[must_use]
    pub fn enriched(&self) -> Option<Enriched<'a>> {
        let mut at = decode_body(self.body, &mut Slots::default()).ok().filter(|_| self.is_enriched())?;
        self.enriched_at(&mut at)
    }

    fn enriched_at(&self, at: &mut usize) -> Option<Enriched<'a>> {
        let device_class = take_bytes(self.body, at).filter(|text| std::str::from_utf8(text).is_ok())?;
        let mut int = || take_varint(self.body, at);
        Some(Enriched {
            device_class,
            hour_of_day: int()?,
            weekday: int()?,
            conversion: int()?,
            cost_micros: int()?,
            revenue_micros: int()?,
        })
    }
}

/// The modelled sums of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Money {
    pub conversion: i64,
    pub cost_micros: i64,
    pub revenue_micros: i64,
}

/// Reads the varint that ends at `*end`, and moves `*end` to its start. 0 where there is none.
#[inline]
fn take_varint_before(body: &[u8], end: &mut usize) -> i64 {
    let mut zigzag = 0u64;
    let mut at = *end;
    while at > 0 {
        at -= 1;
        let byte = body[at];
        if at + 1 < *end && byte < 0x80 {
            at += 1;
            break;
        }
        zigzag = zigzag << 7 | u64::from(byte & 0x7f);
    }
    *end = at;
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::avro::tests::{event, events};
    use crate::fields::{Int, Text};
    use clickmill_schemas::avro::header;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_enriched_event_gives_back_what_was_put_in(
            (source, slots) in events(),
            class in ".{0,9}",
            appended in prop::array::uniform5(prop_oneof![any::<i64>(), -200i64..200]),
        ) {
            let event = event(&source, &slots);
            let mut plain = Vec::new();
            crate::avro::put_event(&mut plain, &event);
            let [hour_of_day, weekday, conversion, cost_micros, revenue_micros] = appended;
            let enriched = Enriched { device_class: class.as_bytes(), hour_of_day, weekday, conversion, cost_micros, revenue_micros };
            let mut value = header(schema_id::AD_EVENT_ENRICHED).to_vec();
            value.extend_from_slice(AdEventView::new(&plain).unwrap().body());
            enriched.put(&mut value);

            let view = AdEventView::new(&value).unwrap();
            prop_assert_eq!(AdEventView::checked(&value), Ok(view));
            prop_assert_eq!(view.enriched(), Some(enriched));
            prop_assert_eq!(view.money(), Money { conversion, cost_micros, revenue_micros });
            prop_assert_eq!((view.click, view.ts_ms), (event.int(Int::Click), event.int(Int::Ts)));
            prop_assert_eq!((view.id, view.app_category), (event.text(Text::Id), event.text(Text::AppCategory)));
            prop_assert_eq!(view.field(Field::Int(Int::C21)), Some(FieldValue::Int(event.int(Int::C21))));
            prop_assert_eq!(view.field(Field::Text(Text::SiteId)), Some(FieldValue::Text(event.text(Text::SiteId))));
            prop_assert!(AdEventView::checked(&value[..value.len() - 1]).is_err());
            prop_assert_eq!(AdEventView::checked(&plain).unwrap().money(), Money::default());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0)], 0..100), enriched in any::<bool>()) {
            let mut value = header(if enriched { 2 } else { 1 }).to_vec();
            value.extend_from_slice(&bytes);
            if let Ok(view) = AdEventView::new(&value) {
                let _ = (view.money(), view.enriched(), view.field(Field::Int(Int::C21)));
            }
            let _ = AdEventView::checked(&value);
        }
    }
}
