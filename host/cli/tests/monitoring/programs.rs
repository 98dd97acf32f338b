//! Starts Prometheus, Alertmanager and the exporters on free ports of 127.0.0.1, and asks them.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{Value, eventually};

/// A port that nobody has now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a checker to its end; what it said where it found something.
pub fn check(program: &str, args: &[&str]) -> Result<(), String> {
    let done = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if done.status.success() { Ok(()) } else { Err(said) }
}

/// A server that runs, killed with the test.
pub struct Server {
    pub port: u16,
    child: Child,
}

impl Server {
    /// Starts it, with `{port}` in the arguments replaced; waits until `path` answers.
    pub fn start(folder: &Path, program: &str, args: &[&str], env: &[(&str, &str)], path: &str) -> Self {
        let port = free_port();
        let log = std::fs::File::create(folder.join(format!("{program}-{port}.log"))).unwrap();
        let child = Command::new(program)
            .args(args.iter().map(|arg| arg.replace("{port}", &port.to_string())))
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask setup` installs it"));
        let server = Self { port, child };
        let url = format!("http://127.0.0.1:{port}{path}");
        eventually(&format!("{program} answers"), Duration::from_secs(20), || ureq::get(&url).call().is_ok());
        server
    }

    pub fn prometheus(folder: &Path, config: &str) -> Self {
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let (config, storage) = (format!("--config.file={}", file.display()), folder.join("prometheus"));
        let storage = format!("--storage.tsdb.path={}", storage.display());
        let args = [config.as_str(), &storage, "--web.listen-address=127.0.0.1:{port}"];
        Self::start(folder, "prometheus", &args, &[], "/-/ready")
    }

    pub fn alertmanager(folder: &Path, config: &str) -> Self {
        let file = folder.join("alertmanager.yml");
        std::fs::write(&file, config).unwrap();
        let (config, storage) = (format!("--config.file={}", file.display()), folder.join("alertmanager"));
        let storage = format!("--storage.path={}", storage.display());
        let args = [config.as_str(), &storage, "--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="];
        Self::start(folder, "prometheus-alertmanager", &args, &[], "/-/ready")
    }

    /// The samples that a query gives now.
    pub fn query(&self, query: &str) -> Vec<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = ureq::get(&url).config().http_status_as_error(false).build().query("query", query).call();
        let answer: Value = answer.unwrap().body_mut().read_json().unwrap();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        crate::list(&answer["data"]["result"]).to_vec()
    }

    /// What `path` answers.
    pub fn get(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        ureq::get(&url).call().unwrap().body_mut().read_json().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
