//! Secrets that are in force, taken out of everything that is printed.

use std::fmt;

/// Shorter ones cannot be told from other text.
const LEAST: usize = 3;

/// Values that are never printed, as they are and as they stand in an address.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(Vec<String>);

impl Hidden {
    #[must_use]
    pub fn new(values: &[String]) -> Self {
        Self::default().and(values)
    }

    /// These, and more.
    #[must_use]
    pub fn and(&self, values: &[String]) -> Self {
        let forms = values.iter().flat_map(|value| [value.clone(), percent_encoded(value)]);
        let mut hidden = self.0.clone();
        hidden.extend(forms.filter(|value| value.len() >= LEAST));
        // One may be a part of another.
        hidden.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        hidden.dedup();
        Self(hidden)
    }

    /// Bytes of the longest.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.0.first().map_or(0, String::len)
    }

    /// The text with `***` in the place of each secret.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, value| text.replace(value, "***"))
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hidden", self.0.len())
    }
}

/// As it may stand in any part of an address: all but letters, digits, `-`, `_`, `.` and `~` percent-encoded.
#[must_use]
pub fn percent_encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The text that [`percent_encoded`] or anybody else has encoded.
#[must_use]
pub fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        let hex = behind.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) if *byte == b'%' => {
                out.push(decoded);
                rest = &behind[2..];
            }
            _ => {
                out.push(*byte);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_encoded_for_any_part_of_an_address() {
        assert_eq!(percent_encoded("site_category"), "site_category");
        assert_eq!(percent_encoded("a&b=é"), "a%26b%3D%C3%A9");
        assert_eq!(percent_decoded("a%26b%3D%C3%A9%+1%"), "a&b=é%+1%");
    }

    #[test]
    fn a_secret_is_in_no_text_whatever_form_it_has_there() {
        let hidden = Hidden::new(&["p@ss/wörd".to_owned(), "p@ss".to_owned(), "ab".to_owned()]);
        let text = "cannot connect to p@ss/wörd, p%40ss%2Fw%C3%B6rd or p@ss: ab";
        assert_eq!(hidden.redact(text), "cannot connect to ***, *** or ***: ab");
        assert!(!format!("{hidden:?}").contains("p@ss"));
    }
}
