//! The thread that interrupts modules lives as long as anything that could need it, and no longer.
//!
//! Alone in its file: it looks at the threads of its process.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;

use std::time::{Duration, Instant};

use clickmill_engine::{Chain, Engine, EngineOptions};
use common::*;

fn tickers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "wasm-epoch").count()
}

#[test]
fn the_ticker_ends_with_the_last_engine_module_and_chain() {
    let engine = Engine::new(&EngineOptions::default()).unwrap();
    let wat = format!(r#"(module (memory (export "memory") 16) {ALLOC} {})"#, map("(loop $l (br $l)) (i32.const 0)"));
    let module = engine.compile(&wat::parse_str(wat).unwrap()).unwrap();
    let mut chain = Chain::new(&engine, &[stage("s", &module)]).unwrap();
    drop((engine.clone(), engine, module));
    assert!(process(&mut chain, &Batch::of(1)).unwrap_err().message.contains("time limit"));
    assert_eq!(tickers(), 1);
    drop(chain);
    let patience = Instant::now() + Duration::from_secs(5);
    while tickers() > 0 {
        assert!(Instant::now() < patience, "the ticker goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}
