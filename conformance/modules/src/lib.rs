//! Modules for the conformance tests, each of them in `examples/`.
