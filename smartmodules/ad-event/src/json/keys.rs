//! From a key's bytes to its field: one multiplication and one comparison.

use crate::fields::{FIELDS, Field};

/// A key of at most 16 bytes as two words, zeros after its end. No JSON string has a raw NUL, so the words tell keys
/// of different lengths apart.
pub type KeyWords = (u64, u64);

const SLOT_BITS: u32 = 7;

struct Slot {
    words: KeyWords,
    field: Option<Field>,
}

const fn slot_of(words: KeyWords, multiplier: u64) -> usize {
    ((words.0 ^ words.1.rotate_left(29)).wrapping_mul(multiplier) >> (64 - SLOT_BITS)) as usize
}

/// The words of a name.
const fn words_of(name: &[u8]) -> KeyWords {
    assert!(name.len() <= 16);
    let mut words = (0, 0);
    let mut i = 0;
    while i < name.len() {
        let byte = (name[i] as u64) << (8 * (i % 8));
        if i < 8 {
            words.0 |= byte;
        } else {
            words.1 |= byte;
        }
        i += 1;
    }
    words
}

/// A multiplier under which no two fields share a slot, found when this is compiled.
const MULTIPLIER: u64 = {
    let mut multiplier = 0x9E37_79B9_7F4A_7C15_u64;
    loop {
        let mut taken = 0u128;
        let mut i = 0;
        while i < FIELDS.len() {
            let bit = 1 << slot_of(words_of(FIELDS[i].0.as_bytes()), multiplier);
            if taken & bit != 0 {
                break;
            }
            taken |= bit;
            i += 1;
        }
        if i == FIELDS.len() {
            break multiplier;
        }
        multiplier = multiplier.wrapping_mul(0xD134_2543_DE82_EF95).wrapping_add(2);
    }
};

static SLOTS: [Slot; 1 << SLOT_BITS] = {
    let mut slots = [const { Slot { words: (0, 0), field: None } }; 1 << SLOT_BITS];
    let mut i = 0;
    while i < FIELDS.len() {
        let words = words_of(FIELDS[i].0.as_bytes());
        slots[slot_of(words, MULTIPLIER)] = Slot { words, field: Some(FIELDS[i].1) };
        i += 1;
    }
    slots
};

/// The field whose name has these words.
#[inline]
pub fn field_of(words: KeyWords) -> Option<Field> {
    let slot = &SLOTS[slot_of(words, MULTIPLIER)];
    if slot.words == words { slot.field } else { None }
}

/// The field of this name.
pub fn field_named(name: &str) -> Option<Field> {
    let bytes = name.as_bytes();
    if bytes.len() > 16 {
        return None;
    }
    let word = |at| crate::word::word(bytes, at);
    field_of((word(0), word(8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_by_its_name_and_nothing_else_is() {
        for (name, field) in FIELDS {
            assert_eq!(field_named(name), Some(field));
            assert_eq!(field_named(&name[1..]), None);
            assert_eq!(field_named(&format!("{name}_")), None);
        }
        assert_eq!(field_named(""), None);
    }
}
