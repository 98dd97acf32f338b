//! The calls that Fluvio does not have: state and windows of an instance. `state` puts them together for a chain.

use wasmtime::TypedFunc;

use crate::abi;
use crate::guest::{Cause, Find, Guest, enter};

pub(crate) struct StateCalls {
    version: TypedFunc<(), i32>,
    save: TypedFunc<(), i32>,
    load: TypedFunc<(i32, i32), i32>,
}

pub(crate) struct WindowCalls {
    emit: TypedFunc<(), i32>,
    pending: TypedFunc<(), i32>,
    watermark: TypedFunc<(), i64>,
    closed_before: TypedFunc<(), i64>,
    advance: TypedFunc<i64, i32>,
}

impl StateCalls {
    pub(crate) fn find(find: &mut Find<'_>) -> Result<Self, Cause> {
        Ok(Self {
            version: find.func("clickmill_state_version")?,
            save: find.func("clickmill_save")?,
            load: find.func("clickmill_load")?,
        })
    }
}

impl WindowCalls {
    pub(crate) fn find(find: &mut Find<'_>) -> Result<Self, Cause> {
        Ok(Self {
            emit: find.func("clickmill_emit")?,
            pending: find.func("clickmill_pending")?,
            watermark: find.func("clickmill_watermark")?,
            closed_before: find.func("clickmill_closed_before")?,
            advance: find.func("clickmill_advance")?,
        })
    }
}

impl Guest {
    /// Version and bytes of the state; `None` where the module has none.
    pub(crate) fn save(&mut self) -> Result<Option<(i32, Vec<u8>)>, Cause> {
        let Some(state) = &self.state else {
            return Ok(None);
        };
        let version = enter(&mut self.store, "clickmill_state_version", &state.version, ())?;
        let status = enter(&mut self.store, "clickmill_save", &state.save, ())?;
        Ok(Some((version, self.answered("clickmill_save", status)?.to_vec())))
    }

    /// Loads a state that [`Guest::save`] gave, of this module or of one before it.
    pub(crate) fn load(&mut self, saved_version: i32, bytes: &[u8]) -> Result<(), Cause> {
        let region = self.alloc(bytes.len())?;
        self.bytes_mut(region).copy_from_slice(bytes);
        let Some(state) = &self.state else {
            return Err("it keeps no state and was given one".into());
        };
        let status = enter(&mut self.store, "clickmill_load", &state.load, region.args())?;
        if status >= 0 {
            return Ok(());
        }
        let said = match self.copied("clickmill_load") {
            Ok(region) => abi::text(self.bytes(region)),
            Err(_) => format!("status {status}"),
        };
        Err(format!("clickmill_load cannot read a state of version {saved_version}: {said}").into())
    }

    /// The windows that changed since the last call, as a record set; `None` where the module has no windows.
    pub(crate) fn emit(&mut self) -> Result<Option<&[u8]>, Cause> {
        let Some(windows) = &self.windows else {
            return Ok(None);
        };
        let status = enter(&mut self.store, "clickmill_emit", &windows.emit, ())?;
        self.answered("clickmill_emit", status).map(Some)
    }

    fn answered(&mut self, name: &str, status: i32) -> Result<&[u8], Cause> {
        if status < 0 {
            return Err(format!("{name} answered {status}").into());
        }
        let region = self.copied(name)?;
        Ok(self.bytes(region))
    }

    pub(crate) fn pending_bytes(&mut self) -> Result<usize, Cause> {
        let Some(windows) = &self.windows else {
            return Ok(0);
        };
        let answer = enter(&mut self.store, "clickmill_pending", &windows.pending, ())?;
        usize::try_from(answer).map_err(|_| format!("clickmill_pending answered {answer}").into())
    }

    pub(crate) fn watermark(&mut self) -> Result<Option<i64>, Cause> {
        let Some(windows) = &self.windows else {
            return Ok(None);
        };
        let answer = enter(&mut self.store, "clickmill_watermark", &windows.watermark, ())?;
        Ok((answer != i64::MIN).then_some(answer))
    }

    pub(crate) fn closed_before(&mut self) -> Result<Option<i64>, Cause> {
        let Some(windows) = &self.windows else {
            return Ok(None);
        };
        let answer = enter(&mut self.store, "clickmill_closed_before", &windows.closed_before, ())?;
        Ok((answer != i64::MIN).then_some(answer))
    }

    pub(crate) fn advance(&mut self, watermark_ms: i64) -> Result<(), Cause> {
        let Some(windows) = &self.windows else {
            return Ok(());
        };
        match enter(&mut self.store, "clickmill_advance", &windows.advance, watermark_ms)? {
            0.. => Ok(()),
            status => Err(format!("clickmill_advance answered {status}").into()),
        }
    }
}
