//! Where white space and numbers of JSON end, byte by byte.

/// The position of the first byte from here on that is not white space.
#[inline(always)]
pub fn skip_white_space(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = json.get(at) {
        at += 1;
    }
    at
}

/// The position after a number; `None` where there is none.
pub fn number_end(json: &[u8], at: usize) -> Option<usize> {
    let after_digits = |start: usize| {
        let rest = json.get(start..)?;
        let len = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
        (len > 0).then_some(start + len)
    };
    let is = |at: usize, bytes: &[u8]| json.get(at).is_some_and(|b| bytes.contains(b));
    let start = at + usize::from(is(at, b"-"));
    let mut end = if is(start, b"0") { start + 1 } else { after_digits(start)? };
    if is(end, b".") {
        end = after_digits(end + 1)?;
    }
    if is(end, b"eE") {
        end = after_digits(end + 1 + usize::from(is(end + 1, b"+-")))?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_end_where_serde_json_ends_them(text in "-?[0-9]{0,3}[.]?[0-9]{0,2}([eE][+-]?[0-9]{0,2})?", rest in "[,} x]?") {
            let whole = number_end(text.as_bytes(), 0) == Some(text.len());
            prop_assert_eq!(whole, serde_json::from_str::<serde_json::Number>(&text).is_ok(), "{}", text);
            let longer = number_end((text.clone() + &rest).as_bytes(), 0);
            prop_assert!(!whole || longer == Some(text.len()));
        }
    }
}
