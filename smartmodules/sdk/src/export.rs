//! The macros that export a module's functions, on wasm alone.
//!
//! Owns the names and types of imports and exports. All logic is in [`crate::guest`] and [`crate::memory`].

/// Exports a [`Module`](crate::Module) as a SmartModule: `alloc`, `dealloc`, `init`, `array_map`, `clickmill_panic`,
/// `clickmill_routed`.
/// Once per crate. Without effect on a native target.
#[macro_export]
macro_rules! export {
    ($module:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod smartmodule_exports {
            $crate::exports_of_module!($module);
        }
    };
}

/// Exports a [`Stateful`](crate::Stateful) module: all of [`export!`](crate::export), and the calls with which a host
/// keeps its state. Once per crate. Without effect on a native target.
#[macro_export]
macro_rules! export_stateful {
    ($module:ty) => {
        #[cfg(target_arch = "wasm32")]
        mod smartmodule_exports {
            $crate::exports_of_module!($module);
            $crate::exports_of_state!($module);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! exports_of_module {
    ($module:ty) => {
        use ::std::cell::RefCell;

        use super::*;

        // A guest has one thread, and no call begins before the last one ended.
        ::std::thread_local! {
            static MEMORY: RefCell<$crate::memory::Memory> = const { RefCell::new($crate::memory::Memory::new()) };
            static GUEST: RefCell<Option<$crate::Guest<$module>>> = const { RefCell::new(None) };
        }

        #[link(wasm_import_module = "env")]
        unsafe extern "C" {
            fn copy_records(address: *const u8, len: usize);
        }

        fn copy_out(bytes: &[u8]) {
            // SAFETY: the host reads `len` bytes at `address`, which `bytes` covers, and writes nothing.
            unsafe { copy_records(bytes.as_ptr(), bytes.len()) }
        }

        /// Runs `call` on the input that the host wrote at `address`, and keeps the buffer.
        fn with_input(address: *const u8, len: usize, call: impl FnOnce(&[u8]) -> i32) -> i32 {
            let Some(buffer) = MEMORY.with_borrow_mut(|memory| memory.take(address)) else {
                return $crate::guest::status::DECODING_INPUT;
            };
            let answer = match buffer.get(..len) {
                Some(input) => call(input),
                None => $crate::guest::status::DECODING_INPUT,
            };
            MEMORY.with_borrow_mut(|memory| memory.keep(buffer));
            answer
        }

        fn with_guest<T>(otherwise: T, call: impl FnOnce(&mut $crate::Guest<$module>) -> T) -> T {
            GUEST.with_borrow_mut(|guest| guest.as_mut().map_or(otherwise, call))
        }

        #[unsafe(no_mangle)]
        extern "C" fn alloc(len: usize) -> *mut u8 {
            MEMORY.with_borrow_mut(|memory| memory.alloc(len))
        }

        #[unsafe(no_mangle)]
        extern "C" fn dealloc(address: *const u8, _len: usize) {
            MEMORY.with_borrow_mut(|memory| memory.dealloc(address));
        }

        #[unsafe(no_mangle)]
        extern "C" fn init(address: *const u8, len: usize, _version: i32) -> i32 {
            $crate::panics::keep();
            with_input(address, len, |input| {
                let Some(params) = $crate::Params::decode(input) else {
                    return $crate::guest::status::DECODING_PARAMS;
                };
                match $crate::Guest::new(&params) {
                    Ok(made) => {
                        GUEST.set(Some(made));
                        0
                    }
                    Err(message) => {
                        copy_out(&$crate::guest::init_failure(&message));
                        $crate::guest::status::INIT
                    }
                }
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn array_map(address: *const u8, len: usize, _version: i32) -> i32 {
            with_input(address, len, |input| {
                with_guest($crate::guest::status::UNKNOWN, |guest| {
                    let (answer, output) = guest.array_map(input);
                    output.inspect(|bytes| copy_out(bytes));
                    answer
                })
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_panic() -> i32 {
            $crate::panics::with_message(copy_out);
            0
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_routed() -> i32 {
            with_guest(0, |guest| guest.routed())
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! exports_of_state {
    ($module:ty) => {
        #[unsafe(no_mangle)]
        extern "C" fn clickmill_state_version() -> i32 {
            <$module as $crate::Stateful>::STATE_VERSION
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_save() -> i32 {
            with_guest($crate::guest::status::UNKNOWN, |guest| {
                copy_out(guest.save());
                0
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_load(address: *const u8, len: usize) -> i32 {
            with_input(address, len, |state| {
                with_guest($crate::guest::status::UNKNOWN, |guest| match guest.load(state) {
                    Ok(()) => 0,
                    Err(message) => {
                        copy_out(message.as_bytes());
                        $crate::guest::status::STATE
                    }
                })
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_emit() -> i32 {
            with_guest($crate::guest::status::UNKNOWN, |guest| {
                copy_out(guest.emit());
                0
            })
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_pending() -> i32 {
            with_guest(0, |guest| guest.pending())
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_watermark() -> i64 {
            with_guest(i64::MIN, |guest| guest.watermark())
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_closed_before() -> i64 {
            with_guest(i64::MIN, |guest| guest.closed_before())
        }

        #[unsafe(no_mangle)]
        extern "C" fn clickmill_advance(watermark_ms: i64) -> i32 {
            with_guest($crate::guest::status::UNKNOWN, |guest| {
                guest.advance(watermark_ms);
                0
            })
        }
    };
}
