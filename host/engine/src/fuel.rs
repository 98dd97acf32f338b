//! Fuel: a count of instructions that is the same on every machine. Only an engine that was asked to meter has it.

use wasmtime::Store;

use crate::guest::{Cause, Host};

/// What an instance has burnt, and what a call of it may burn.
#[derive(Debug)]
pub(crate) struct Meter {
    call_fuel: u64,
    burnt: u64,
}

impl Meter {
    pub(crate) fn new(call_fuel: Option<u64>) -> Self {
        Self { call_fuel: call_fuel.unwrap_or(u64::MAX), burnt: 0 }
    }

    pub(crate) const fn burnt(&self) -> u64 {
        self.burnt
    }

    pub(crate) const fn call_fuel(&self) -> u64 {
        self.call_fuel
    }
}

/// Fills the tank for a call.
pub(crate) fn fill(store: &mut Store<Host>, fuel: u64) -> Result<(), Cause> {
    store.set_fuel(fuel).map_err(|e| format!("its engine does not meter: {e}").into())
}

/// Books what a call has burnt.
#[inline]
pub(crate) fn book(store: &mut Store<Host>) {
    if store.data().meter.is_none() {
        return;
    }
    let left = store.get_fuel().unwrap_or_default();
    if let Some(meter) = &mut store.data_mut().meter {
        meter.burnt = meter.burnt.saturating_add(meter.call_fuel.saturating_sub(left));
    }
}
