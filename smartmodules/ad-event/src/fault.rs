//! Why a value is not an ad event.

use clickmill_schemas::envelope::ErrorType;

/// Names of the rules of this crate, as they show in a dead letter. `validate` has more.
pub mod rule {
    /// Not JSON.
    pub const JSON: &str = "json";
    /// Not UTF-8.
    pub const UTF8: &str = "utf8";
    /// Not Avro of a known schema.
    pub const AVRO: &str = "avro";
    /// JSON, but not an object.
    pub const OBJECT: &str = "object";
    /// A field is missing.
    pub const REQUIRED: &str = "required";
    /// A field stands there twice.
    pub const DUPLICATE: &str = "duplicate";
    /// A field is of another type.
    pub const TYPE: &str = "type";
    /// An integer is out of its field's range.
    pub const RANGE: &str = "range";
}

/// Why a value is not an ad event, or not one that is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{rule}: {message}")]
pub struct Fault {
    pub error_type: ErrorType,
    /// The name of the rule that it breaks.
    pub rule: &'static str,
    /// Names the place: a position, or a field and its value.
    pub message: String,
}

impl Fault {
    /// Not readable at all.
    pub(crate) fn parsing(rule: &'static str, message: String) -> Self {
        Self { error_type: ErrorType::Parsing, rule, message }
    }

    /// Readable, but against a rule.
    #[must_use]
    pub const fn schema(rule: &'static str, message: String) -> Self {
        Self { error_type: ErrorType::Schema, rule, message }
    }
}

/// Longest part of a value that a message shows.
const SHOWN_BYTES: usize = 80;

/// A text for a message: quoted, escaped, cut.
#[must_use]
pub fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let cut = &text[..text.floor_char_boundary(SHOWN_BYTES)];
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("{cut:?}{more}")
}
