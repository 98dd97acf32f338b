//! TLS to real servers with a certificate of our own; Redis as a node of a cluster that has all slots, behind a user and password.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clickmill_connectors::{Connector, Endpoint, PostgresOptions, RedisOptions, ServerUrl, SinkState};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::feed::{Feed, MINUTE, Running, T0, host, wait};
use crate::lab::Lab;
use crate::pg::{ask, assert_equal_to_the_log, connect, fill};

/// Writes an authority's certificate, and one of 127.0.0.1 with its key.
fn certificates(folder: &Path) -> [PathBuf; 3] {
    let mut params = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let of = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let files = ["ca.pem", "server.pem", "server.key"].map(|name| folder.join(name));
    for (file, text) in files.iter().zip([authority.pem(), of.pem(), key.serialize_pem()]) {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_asked_for_its_certificate_where_somebody_wants_it() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 2);
    let url = lab.postgres().await;
    let client = connect(&lab).await;
    let folder = ask(&client, "SHOW data_directory").await.remove(0);
    let [ca, certificate, key] = certificates(lab.path());
    let owner = std::fs::metadata(&folder).unwrap();
    for (from, to) in [(&certificate, "server.crt"), (&key, "server.key")] {
        let to = Path::new(&folder).join(to);
        std::fs::copy(from, &to).unwrap();
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::chown(&to, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    client.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
    client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let start = |mode: &str, tls_ca_file: Option<PathBuf>| {
        let options = PostgresOptions { tls_ca_file, ..PostgresOptions::default() };
        let url = ServerUrl(format!("{url}?sslmode={mode}"));
        Running::start(options.windows(&options.pool(Endpoint::Named(url)), &feed.source))
    };
    let encrypted =
        "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'clickmill'";
    for (mode, file, is_encrypted) in [
        ("verify-full", Some(ca.clone()), "t"),
        ("require", Some(ca), "t"),
        ("require", None, "t"),
        ("disable", None, "f"),
    ] {
        let sink = start(mode, file);
        sink.reach_state(SinkState::Running).await;
        assert_eq!(ask(&client, encrypted).await, [is_encrypted], "{mode}");
        sink.stop().await;
    }
    // Nobody whom the system knows has signed it, nor has its bearer signed itself.
    for file in [None, Some(certificate)] {
        let sink = start("verify-full", file);
        sink.wait(|h| h.status().last_error.is_some_and(|e| e.contains("certificate"))).await;
        assert_ne!(sink.handle.status().state, SinkState::Running);
        sink.stop().await;
    }
    let sink = start("prefer", None);
    sink.reach(fill(&mut feed, 1, 3)).await;
    sink.stop().await;
    assert_equal_to_the_log(&client, &feed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_authorities_are_named_nobody_is_believed_without_tls() {
    let lab = Lab::new();
    let feed = Feed::new(lab.path(), 1);
    let [ca, ..] = certificates(lab.path());
    // Speaks no TLS: as one does that stands in between and wants to hear all.
    let url = lab.postgres().await;
    for (mode, state, says) in [
        ("", SinkState::Retrying, "does not support TLS"),
        ("?sslmode=prefer", SinkState::Retrying, "does not support TLS"),
        ("?sslmode=disable", SinkState::Failed, "sslmode=disable"),
    ] {
        let options = PostgresOptions { tls_ca_file: Some(ca.clone()), ..PostgresOptions::default() };
        let url = ServerUrl(format!("{url}{mode}"));
        let sink = Running::start(options.windows(&options.pool(Endpoint::Named(url)), &feed.source));
        sink.reach_state(state).await;
        let why = sink.handle.status().last_error.unwrap();
        assert!(why.contains(says), "{mode}: {why}");
        sink.stop().await;
    }
    let plain = lab.servers.redis().await.unwrap();
    let options = RedisOptions { tls_ca_file: Some(ca), ..RedisOptions::default() };
    let sink = Running::start(options.windows(Endpoint::Named(ServerUrl(plain)), &feed.source));
    sink.reach_state(SinkState::Failed).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_be_a_cluster_of_one_behind_tls_a_user_and_a_password() {
    let lab = Lab::new();
    let mut feed = Feed::new(lab.path(), 1);
    let [ca, certificate, key] = certificates(lab.path());
    let [port, bus] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let mut server = Command::new("redis-server")
        .args([
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--tls-auth-clients",
            "no",
        ])
        .args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string(), "--tls-cluster", "yes"])
        .args(["--user", "default", "off", "--user", "app", "on", ">s3cr3t", "~*", "&*", "+@all", "--dir"])
        .arg(lab.path())
        .args([Path::new("--tls-cert-file"), &certificate, Path::new("--tls-key-file"), &key])
        .args([Path::new("--tls-ca-cert-file"), &ca])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let url = |password: &str| Some(ServerUrl(format!("rediss://app:{password}@127.0.0.1:{port}")));
    let named = |name: &str, url, tls_ca_file| {
        Connector::Redis(RedisOptions { name: name.to_owned(), url, tls_ca_file, ..RedisOptions::default() })
    };
    let all = vec![
        named("good", url("s3cr3t"), Some(ca.clone())),
        named("unknown-authority", url("s3cr3t"), None),
        named("wrong-password", url("0ther"), Some(ca.clone())),
    ];
    let host = host(&feed, &lab.servers, all).await;
    for minute in 0..20 {
        feed.partial((0, 1, 1), MINUTE, T0 + minute * MINUTE, "total", &[("", [minute, 0, 0, 0, 0])]);
    }
    let end = feed.flush();
    let handles = host.handles();
    // In order of their names. Without slots the cluster is down.
    wait(&handles[0], |h| h.status().last_error.is_some_and(|e| e.to_lowercase().contains("cluster"))).await;
    let pem = std::fs::read(&ca).unwrap();
    let certificates = ::redis::TlsCertificates { client_tls: None, root_cert: Some(pem) };
    let client = ::redis::Client::build_with_tls(url("s3cr3t").unwrap().0, certificates).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    ::redis::cmd("CLUSTER").arg(&["ADDSLOTSRANGE", "0", "16383"]).exec_async(&mut redis).await.unwrap();
    wait(&handles[0], |h| h.confirmed() >= end).await;
    let keys: Vec<String> = ::redis::cmd("KEYS").arg("metrics:*").query_async(&mut redis).await.unwrap();
    assert_eq!(keys.len(), 20);
    host.rebuild("good").await.unwrap();
    let good = host.handles().remove(0);
    wait(&good, |h| h.status().state == SinkState::Running && h.confirmed() >= end).await;
    for (handle, says) in [(&handles[1], "certificate"), (&handles[2], "authentication failed")] {
        wait(handle, |h| h.status().last_error.is_some_and(|e| e.contains(says))).await;
        let status = format!("{:?}", handle.status());
        assert!(!status.contains("s3cr3t") && !status.contains("0ther"), "{status}");
    }
    host.close(tokio::time::Instant::now() + Duration::from_secs(5)).await;
    server.kill().unwrap();
    server.wait().unwrap();
}
