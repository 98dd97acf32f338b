//! The message of a panic, kept for the host: what traps cannot speak any more, but its memory can be read.

use std::fmt::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, Once, PoisonError};

/// Longest message that is kept.
const MAX_BYTES: usize = 512;

/// A text of fixed size, so that keeping a message needs no memory.
struct Message {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let cut = text.floor_char_boundary(MAX_BYTES - self.len);
        self.bytes[self.len..self.len + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.len += cut;
        if cut == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

static MESSAGE: Mutex<Message> = Mutex::new(Message { bytes: [0; MAX_BYTES], len: 0 });

/// From now on messages of panics are kept.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(write)));
}

fn write(panic: &PanicHookInfo<'_>) {
    let mut message = MESSAGE.lock().unwrap_or_else(PoisonError::into_inner);
    message.len = 0;
    let said = panic.payload_as_str().unwrap_or("something that is no text");
    // An error says that the message is cut.
    let _ = match panic.location() {
        Some(at) => write!(message, "panicked at '{said}', {}:{}", at.file(), at.line()),
        None => write!(message, "panicked at '{said}'"),
    };
}

/// Hands the last message to `read`; an empty one where there was no panic.
pub fn with_message(read: impl FnOnce(&[u8])) {
    let message = MESSAGE.lock().unwrap_or_else(PoisonError::into_inner);
    read(&message.bytes[..message.len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_kept_with_its_place_and_cut_where_it_is_long() {
        let kept = || {
            let mut text = String::new();
            with_message(|bytes| text = String::from_utf8(bytes.to_vec()).unwrap());
            text
        };
        let before = panic::take_hook();
        keep();
        let _ = panic::catch_unwind(|| panic!("{} of {}", 3, "four"));
        let (first, line) = (kept(), line!() - 1);
        let _ = panic::catch_unwind(|| panic!("{}", "ü".repeat(MAX_BYTES)));
        let second = kept();
        panic::set_hook(before);
        assert_eq!(first, format!("panicked at '3 of four', {}:{line}", file!()));
        assert!(second.ends_with('ü') && (MAX_BYTES - 1..=MAX_BYTES).contains(&second.len()), "{second}");
    }
}
