//! ctr-window
