//! ctr-window

pub mod column;
pub mod config;
pub mod emission;
pub mod pane;
pub mod state;
pub mod table;
pub mod watermark;
pub mod windows;
