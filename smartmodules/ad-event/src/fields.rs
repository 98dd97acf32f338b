//! The 25 fields of an ad event: names, types, order.
//!
//! The order is that of the Avro schema: first what `enrich` and `ctr-window` read of every event, so that they need
//! not step over the rest.

/// A field that holds an opaque UTF-8 text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    Id,
    SiteCategory,
    AppCategory,
    Hour,
    SiteId,
    SiteDomain,
    AppId,
    AppDomain,
    DeviceId,
    DeviceIp,
    DeviceModel,
}

/// A field that holds an integer: `ts` one of 64 bits, the others of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Int {
    Click,
    Ts,
    BannerPos,
    DeviceType,
    C1,
    DeviceConnType,
    C14,
    C15,
    C16,
    C17,
    C18,
    C19,
    C20,
    C21,
}

/// Any field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    Text(Text),
    Int(Int),
}

/// How many fields are texts.
pub const TEXT_COUNT: usize = 11;
/// How many fields are integers.
pub const INT_COUNT: usize = 14;

/// All fields, in the order of the Avro schema.
pub const FIELDS: [(&str, Field); TEXT_COUNT + INT_COUNT] = [
    ("click", Field::Int(Int::Click)),
    ("ts", Field::Int(Int::Ts)),
    ("banner_pos", Field::Int(Int::BannerPos)),
    ("device_type", Field::Int(Int::DeviceType)),
    ("id", Field::Text(Text::Id)),
    ("site_category", Field::Text(Text::SiteCategory)),
    ("app_category", Field::Text(Text::AppCategory)),
    ("hour", Field::Text(Text::Hour)),
    ("C1", Field::Int(Int::C1)),
    ("site_id", Field::Text(Text::SiteId)),
    ("site_domain", Field::Text(Text::SiteDomain)),
    ("app_id", Field::Text(Text::AppId)),
    ("app_domain", Field::Text(Text::AppDomain)),
    ("device_id", Field::Text(Text::DeviceId)),
    ("device_ip", Field::Text(Text::DeviceIp)),
    ("device_model", Field::Text(Text::DeviceModel)),
    ("device_conn_type", Field::Int(Int::DeviceConnType)),
    ("C14", Field::Int(Int::C14)),
    ("C15", Field::Int(Int::C15)),
    ("C16", Field::Int(Int::C16)),
    ("C17", Field::Int(Int::C17)),
    ("C18", Field::Int(Int::C18)),
    ("C19", Field::Int(Int::C19)),
    ("C20", Field::Int(Int::C20)),
    ("C21", Field::Int(Int::C21)),
];

impl Text {
    /// All texts, in the order of their declaration.
    pub const ALL: [Self; TEXT_COUNT] = [
        Self::Id,
        Self::SiteCategory,
        Self::AppCategory,
        Self::Hour,
        Self::SiteId,
        Self::SiteDomain,
        Self::AppId,
        Self::AppDomain,
        Self::DeviceId,
        Self::DeviceIp,
        Self::DeviceModel,
    ];
}

impl Int {
    /// Whether the field can hold this value.
    #[must_use]
    #[inline]
    pub const fn holds(self, value: i64) -> bool {
        matches!(self, Self::Ts) || value as i32 as i64 == value
    }
}

impl Field {
    /// The name in JSON and Avro.
    #[must_use]
    pub fn name(self) -> &'static str {
        FIELDS.iter().find(|(_, field)| *field == self).map_or("", |(name, _)| name)
    }

    /// The field of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        FIELDS.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_listed_once() {
        for (i, (name, field)) in FIELDS.iter().enumerate() {
            assert_eq!(field.name(), *name);
            assert_eq!(Field::named(name), Some(*field));
            assert!(FIELDS[..i].iter().all(|(other, _)| other != name));
        }
        let texts = FIELDS.iter().filter(|(_, field)| matches!(field, Field::Text(_))).count();
        assert_eq!(texts, TEXT_COUNT);
        assert_eq!(Text::DeviceModel as usize + 1, TEXT_COUNT);
        assert_eq!(Int::C21 as usize + 1, INT_COUNT);
    }
}
