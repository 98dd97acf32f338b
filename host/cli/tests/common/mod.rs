//! Drives the real `clickmill` binary with real servers, in a folder of its own.
//!
//! Tests share nothing but this file: each has its data directory, its private PostgreSQL and Redis, its port.

#![allow(dead_code, reason = "each test binary uses its part")]

pub mod sinks;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub use serde_json::Value;

/// The folder of real rows beside the project, if it is here.
pub fn real_data(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{} is not here", path.display()));
    None
}

/// Says that a test cannot be run here, and why, where `cargo xtask test` shows it too.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(file) = std::env::var_os("CLICKMILL_SKIPS_FILE") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        std::io::Write::write_all(&mut file, format!("{why}\n").as_bytes()).unwrap();
    }
}

/// A data directory and the commands on it.
pub struct Bench {
    pub folder: tempfile::TempDir,
    pub port: u16,
    program: PathBuf,
    env: Vec<(String, String)>,
}

impl Bench {
    pub fn new() -> Self {
        // Under /var/tmp: the private servers' user must be able to reach it when tests run as root.
        let folder = tempfile::Builder::new().prefix("clickmill-test-").tempdir_in("/var/tmp").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, port, program: env!("CARGO_BIN_EXE_clickmill").into(), env: Vec::new() }
    }

    /// Another program than the one that was built.
    pub fn with_program(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    pub fn with_env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .env("CLICKMILL_DATA_DIR", self.data())
            .env("CLICKMILL_LISTEN", format!("127.0.0.1:{}", self.port))
            .envs(self.env.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end, whatever the exit code.
    pub fn try_run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs to the end and expects success; standard output.
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        assert!(
            output.status.success(),
            "clickmill {}: {}\n{}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs to the end and expects this exit code; standard error.
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let output = self.try_run(args);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "clickmill {}: {stderr}", args.join(" "));
        assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
        stderr
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }

    /// Starts in the background; its talk goes to `<name>.log` in the folder.
    pub fn start(&self, name: &str, args: &[&str]) -> Running {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.file(&format!("{name}.log"))).unwrap();
        let child = self.command(args).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Running { child }
    }

    /// Windows of one size, all dimensions, as the contract's CSV.
    /// A module in the text format, as a file.
    pub fn wat(&self, name: &str, text: &str) -> String {
        let file = self.file(name);
        std::fs::write(&file, wat::parse_str(text).unwrap()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub fn windows(&self, size: &str) -> String {
        self.run(&["windows", "--size", size, "--output", "csv"])
    }

    pub fn status(&self) -> Value {
        self.json(&["status", "--output", "json"])
    }

    pub fn generate(&self, rows: u64, seed: u64, hours: u32) -> PathBuf {
        let out = self.file(&format!("rows-{rows}-{seed}.csv"));
        self.run(&[
            "generate",
            "--rows",
            &rows.to_string(),
            "--seed",
            &seed.to_string(),
            "--hours",
            &hours.to_string(),
            "--out",
            out.to_str().unwrap(),
        ]);
        out
    }

    /// Sends lines to the running host.
    pub fn post(&self, lines: &str) {
        let url = format!("http://127.0.0.1:{}/api/topics/ad_events_raw/records", self.port);
        ureq::post(&url).send(lines).unwrap();
    }

    /// Waits until a host answers and all of its parts run.
    pub fn until_ready(&self) {
        let url = format!("http://127.0.0.1:{}/health/ready", self.port);
        eventually("the host is ready", Duration::from_secs(30), || ureq::get(&url).call().is_ok());
    }

    /// The dead letters that workers and `produce` have written.
    pub fn dead_letters(&self) -> Vec<Value> {
        self.run(&["topic", "read", "ad_events_error", "--output", "json"])
            .lines()
            .map(|line| sinks::text_value(&serde_json::from_str(line).unwrap()))
            .filter(|value| value["rule"].is_string())
            .collect()
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(&format!("{name}.log"))).unwrap_or_default()
    }
}

/// Hands every record on, and takes any parameters. `TRAP` in an input makes it trap, `LOOP` never ends.
pub const POISON: &str = r#"(module
    (import "env" "copy_records" (func $copy (param i32 i32)))
    (memory (export "memory") 256)
    (func $be (param $at i32) (result i32)
        (i32.or
            (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24))
                    (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
            (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8))
                    (i32.load8_u offset=3 (local.get $at)))))
    (func (export "alloc") (param i32) (result i32) (i32.const 65536))
    (func (export "init") (param i32 i32 i32) (result i32) (i32.const 0))
    (func (export "array_map") (param $p i32) (param $n i32) (param $v i32) (result i32)
        (local $i i32) (local $word i32)
        (local.set $i (local.get $p))
        (block $done (loop $next
            (br_if $done (i32.ge_u (local.get $i) (i32.add (local.get $p) (local.get $n))))
            (local.set $word (i32.load (local.get $i)))
            (if (i32.eq (local.get $word) (i32.const 0x50415254)) (then unreachable))
            (if (i32.eq (local.get $word) (i32.const 0x504f4f4c)) (then (loop $ever (br $ever))))
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br $next)))
        (call $copy (i32.add (local.get $p) (i32.const 12))
            (i32.add (call $be (i32.add (local.get $p) (i32.const 8))) (i32.const 1)))
        (call $be (i32.add (local.get $p) (i32.const 12)))))"#;

/// 2014-10-21T00:00:00Z
pub const DAY: i64 = 1_413_849_600_000;

/// An event that every rule accepts.
pub fn event(id: &str, ts: i64) -> Value {
    let hour = jiff::Timestamp::from_millisecond(ts).unwrap().strftime("%y%m%d%H").to_string();
    serde_json::json!({
        "id": id, "click": 0, "hour": hour, "C1": 1005, "banner_pos": 0, "site_id": "a", "site_domain": "b",
        "site_category": "c", "app_id": "d", "app_domain": "e", "app_category": "f", "device_id": "g",
        "device_ip": "h", "device_model": "i", "device_type": 1, "device_conn_type": 0, "C14": 1, "C15": 320, "C16": 50,
        "C17": 1, "C18": 0, "C19": 35, "C20": -1, "C21": 79, "ts": ts
    })
}

/// A background process, killed with the test.
pub struct Running {
    pub child: Child,
}

impl Running {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    pub fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for something that must become true; says what when it does not.
pub fn eventually(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
