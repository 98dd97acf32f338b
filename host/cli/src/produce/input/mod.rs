//! Reading files of rows or lines, of any size, in bounded memory, off the caller's thread.
//!
//! [`files`] opens them, [`chunks`] cuts their bytes at line ends, [`rows`] splits CSV lines into Avazu's columns.
//! Nothing here knows topics, event time or JSON; `profile` reads through it too.

pub mod chunks;
pub mod columns;
pub mod files;
pub mod rows;
mod split;
