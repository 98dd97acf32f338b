//! The buffers that the host writes a call's input into.
//!
//! The host's protocol is: `alloc`, write, call with that address; from the call on the buffer is the guest's. One
//! buffer is kept and lent again, so that a guest's memory does not grow from call to call. An address that was not
//! lent is never freed.

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Memory {
    lent: Vec<Vec<u8>>,
    spare: Vec<u8>,
}

impl Memory {
    /// No buffer yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { lent: Vec::new(), spare: Vec::new() }
    }

    /// Lends a buffer of at least `len` bytes, by its address.
    pub fn alloc(&mut self, len: usize) -> *mut u8 {
        let mut buffer = std::mem::take(&mut self.spare);
        if buffer.len() < len.max(1) {
            drop(buffer);
            // Some room to spare, since batches differ a little in length.
            buffer = vec![0; len + len / 8 + 64];
        }
        let address = buffer.as_mut_ptr();
        self.lent.push(buffer);
        address
    }

    /// Takes back the buffer that was lent at this address.
    pub fn take(&mut self, address: *const u8) -> Option<Vec<u8>> {
        let place = self.lent.iter().position(|buffer| buffer.as_ptr() == address)?;
        Some(self.lent.swap_remove(place))
    }

    /// Keeps a buffer for the next call, unless a greater one is kept already.
    pub fn keep(&mut self, buffer: Vec<u8>) {
        if buffer.len() > self.spare.len() {
            self.spare = buffer;
        }
    }

    /// Takes back the buffer that was lent at this address, unused.
    pub fn dealloc(&mut self, address: *const u8) {
        if let Some(buffer) = self.take(address) {
            self.keep(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_buffer_serves_call_after_call() {
        let mut memory = Memory::default();
        let first = memory.alloc(1_000);
        let buffer = memory.take(first).unwrap();
        memory.keep(buffer);
        for len in [1_000, 10, 1_100, 0] {
            let again = memory.alloc(len);
            assert_eq!(first, again);
            memory.dealloc(again);
        }
    }

    #[test]
    fn buffers_lent_at_once_are_apart_and_strangers_are_left_alone() {
        let mut memory = Memory::default();
        let (a, b) = (memory.alloc(8), memory.alloc(8));
        assert_ne!(a, b);
        memory.dealloc(a.wrapping_add(1));
        assert!(memory.take(b).is_some_and(|buffer| buffer.len() >= 8));
        assert!(memory.take(b).is_none());
        memory.dealloc(a);
        memory.dealloc(a);
        assert!(memory.lent.is_empty());
    }
}
