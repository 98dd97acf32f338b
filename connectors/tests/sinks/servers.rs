//! Private servers, against the real programs: started, adopted after a SIGKILL of the host, stopped.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::{Lab, STOP_TIME, must, open_to_all};
use clickmill_connectors::{ServerError, Servers};

/// Set in the process that starts servers to be killed.
const CHILD: &str = "CLICKMILL_TEST_SERVERS";

#[tokio::test(flavor = "multi_thread")]
async fn servers_start_behind_a_password_and_stop() {
    let lab = Lab::new();
    let (postgres, redis) = tokio::join!(lab.servers.postgres(), lab.servers.redis());
    let (postgres, redis) = (must(postgres), must(redis));
    assert_eq!(must(lab.servers.postgres().await), postgres, "asked again, the same one");

    let encoding = ask_postgres(&postgres, "SHOW server_encoding").await.unwrap();
    assert_eq!(encoding, "UTF8");
    assert_eq!(ask_postgres(&postgres, "SHOW lc_collate").await.unwrap(), "C");
    assert!(ask_postgres(&with_other_password(&postgres), "SELECT 1::text").await.is_err());
    assert!(ping_redis(&redis).await.is_ok());
    assert!(ping_redis(&with_other_password(&redis)).await.is_err());

    let record = lab.path().join("servers/servers.json");
    assert_eq!(std::fs::metadata(&record).unwrap().permissions().mode() & 0o777, 0o600);
    let written: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    assert_eq!([&written["postgres"]["url"], &written["redis"]["url"]], [&postgres[..], &redis[..]]);
    for pid in pids(lab.path()) {
        let owner = std::fs::metadata(format!("/proc/{pid}")).unwrap().uid();
        assert_ne!(owner, 0, "process {pid} runs as root");
    }
    let before = pids(lab.path());
    assert_eq!(before.len(), 2);
    lab.servers.stop(STOP_TIME).await.unwrap();
    assert!(ping_redis(&redis).await.is_err());
    assert!(ask_postgres(&postgres, "SELECT 1::text").await.is_err());
    assert!(before.iter().all(|pid| !is_alive(*pid)));

    // The next start finds what was written, and stale pid files do not keep it from starting.
    std::fs::write(home(lab.path()).join("redis/redis.pid"), "999999").unwrap();
    std::fs::write(home(lab.path()).join("postgres/postmaster.pid"), "999999\n").unwrap();
    assert!(ping_redis(&must(lab.servers.redis().await)).await.is_ok());
    assert!(ask_postgres(&must(lab.servers.postgres().await), "SELECT 1::text").await.is_ok());
}

/// A process that starts the lab's servers, as a host does.
fn host_to_be_killed(lab: &Lab) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "servers::child_that_starts_servers_and_waits_to_be_killed", "--ignored", "--nocapture"])
        .env(CHILD, lab.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_host_left_running_is_adopted() {
    let lab = Lab::new();
    let mut child = host_to_be_killed(&lab);
    let ready = lab.path().join("ready");
    wait_for("the child's servers", || ready.exists() || child.try_wait().unwrap().is_some());
    assert!(ready.exists(), "the child could not start its servers");
    child.kill().unwrap();
    child.wait().unwrap();
    let before = pids(lab.path());
    let started = Instant::now();
    let (postgres, redis) = tokio::join!(lab.servers.postgres(), lab.servers.redis());
    let (postgres, redis) = (must(postgres), must(redis));
    assert!(started.elapsed() < Duration::from_secs(1), "adopting took {:?}", started.elapsed());
    assert_eq!(std::fs::read_to_string(&ready).unwrap(), format!("{postgres}\n{redis}"));
    assert_eq!(pids(lab.path()), before);
    lab.servers.stop(STOP_TIME).await.unwrap();
    wait_for("the adopted servers' end", || before.iter().all(|pid| !is_alive(*pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_initdb_that_a_killed_host_left_is_ended_by_a_stop_and_before_the_next() {
    for stop_first in [true, false] {
        let lab = Lab::new();
        let mut child = host_to_be_killed(&lab);
        let record = lab.path().join("servers/servers.json");
        wait_for("initdb", || record.exists() && home(lab.path()).join("postgres.new/base").exists());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(processes_in(&home(lab.path())).count() > 0, "initdb goes on");
        if stop_first {
            lab.servers.stop(STOP_TIME).await.unwrap();
            // What was killed may take a moment to be gone, far less than initdb would go on for.
            let killed = Instant::now();
            wait_for("the end of initdb's processes", || processes_in(&home(lab.path())).count() == 0);
            assert!(killed.elapsed() < Duration::from_millis(300), "{:?}", killed.elapsed());
        }
        must(lab.servers.postgres().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the two tests above, run by them in a process of its own"]
async fn child_that_starts_servers_and_waits_to_be_killed() {
    let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let servers = Servers::new(&dir);
    let (postgres, redis) = (must(servers.postgres().await), must(servers.redis().await));
    std::fs::write(dir.join("ready.new"), format!("{postgres}\n{redis}")).unwrap();
    std::fs::rename(dir.join("ready.new"), dir.join("ready")).unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_is_started_again_with_what_it_had() {
    let lab = Lab::new();
    let before = must(lab.servers.postgres().await);
    // Durable at its commit, unlike what sinks write: they get theirs back from the log.
    run_postgres(
        &before,
        "BEGIN; SET LOCAL synchronous_commit = on; CREATE TABLE kept AS SELECT 'kept'::text AS v; COMMIT",
    )
    .await;
    for pid in pids(lab.path()) {
        Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
        wait_for("its end", || ask_state(pid).is_none_or(|s| s == 'Z'));
    }
    let after = must(retry(|| lab.servers.postgres()).await);
    assert_eq!(ask_postgres(&after, "SELECT v FROM kept").await.unwrap(), "kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_hang_are_killed_with_their_children_in_time() {
    let lab = Lab::new();
    let (postgres, redis) = tokio::join!(lab.servers.postgres(), lab.servers.redis());
    run_postgres(
        &must(postgres),
        "BEGIN; SET LOCAL synchronous_commit = on; CREATE TABLE kept AS SELECT 'kept'::text AS v; COMMIT",
    )
    .await;
    must(redis);
    let servers = pids(lab.path());
    let all: Vec<u32> = servers.iter().flat_map(|pid| children(*pid)).chain(servers.clone()).collect();
    assert!(all.len() > 4, "PostgreSQL has children: {all:?}");
    for pid in &all {
        Command::new("kill").args(["-STOP", &pid.to_string()]).status().unwrap();
    }
    let begun = Instant::now();
    lab.servers.stop(Duration::from_millis(1_500)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1_700), "{:?}", begun.elapsed());
    let left: Vec<_> = all.iter().filter(|pid| is_alive(**pid)).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    assert_eq!(ask_postgres(&must(lab.servers.postgres().await), "SELECT v FROM kept").await.unwrap(), "kept");
    must(lab.servers.redis().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_postgres_that_is_still_being_made() {
    let lab = Lab::new();
    let made = lab.servers.clone();
    let making = tokio::spawn(async move { made.postgres().await });
    let record = lab.path().join("servers/servers.json");
    wait_for("initdb", || record.exists() && home(lab.path()).join("postgres.new/base").exists());
    making.abort();
    assert!(making.await.unwrap_err().is_cancelled());
    let begun = Instant::now();
    lab.servers.stop(STOP_TIME).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let left: Vec<_> = processes_in(&home(lab.path())).collect();
    assert!(left.is_empty(), "still there: {left:?}");
    must(lab.servers.postgres().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_that_the_servers_user_cannot_enter_has_them_aside() {
    if !is_root() {
        eprintln!("SKIPPED: only root starts servers as another user");
        return;
    }
    let lab = Lab::new();
    std::fs::set_permissions(lab.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let redis = must(lab.servers.redis().await);
    assert!(ping_redis(&redis).await.is_ok());
    let aside = home(lab.path());
    assert!(aside.starts_with("/var/tmp"), "{}", aside.display());
    assert_eq!(std::fs::metadata(&aside).unwrap().mode() & 0o777, 0o700);
    assert_ne!(std::fs::metadata(&aside).unwrap().uid(), 0);
    assert_eq!(must(Servers::new(lab.path()).redis().await), redis, "found again");
    lab.servers.stop(STOP_TIME).await.unwrap();

    // Somebody else's folder in that place is not used.
    std::fs::remove_dir_all(&aside).unwrap();
    std::fs::create_dir(&aside).unwrap();
    open_to_all(&aside);
    assert!(matches!(lab.servers.redis().await, Err(ServerError::UnsafeHome { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_password_is_said_and_nothing_is_overwritten() {
    let lab = Lab::new();
    must(lab.servers.redis().await);
    lab.servers.stop(STOP_TIME).await.unwrap();
    let path = lab.path().join("servers/servers.json");
    let record = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = lab.servers.redis().await.unwrap_err().to_string();
    assert!(error.contains("password is lost") && error.contains("servers.json"), "{error}");
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(lab.servers.redis().await, Err(ServerError::BadRecord { .. })));
    std::fs::write(&path, record).unwrap();
    must(lab.servers.redis().await);
}

async fn run_postgres(url: &str, sql: &str) {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
}

async fn ask_postgres(url: &str, sql: &str) -> Result<String, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client.query_one(sql, &[]).await?.get(0))
}

async fn ping_redis(url: &str) -> redis::RedisResult<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    redis::cmd("PING").exec_async(&mut connection).await
}

async fn retry<T, F>(mut call: impl FnMut() -> F) -> Result<T, ServerError>
where
    F: Future<Output = Result<T, ServerError>>,
{
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match call().await {
            Err(e) if e.is_passing() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            done => return done,
        }
    }
}

fn with_other_password(url: &str) -> String {
    let (start, end) = (url.rfind(':').unwrap(), url.rfind('@').unwrap());
    let login = url[..start].rfind(':').unwrap();
    format!("{}:wrong{}", &url[..login], &url[end..])
}

fn home(data_dir: &Path) -> PathBuf {
    let record = std::fs::read(data_dir.join("servers/servers.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["home"].as_str().unwrap().into()
}

fn pids(data_dir: &Path) -> Vec<u32> {
    let home = home(data_dir);
    ["postgres/postmaster.pid", "redis/redis.pid"]
        .iter()
        .filter_map(|file| std::fs::read_to_string(home.join(file)).ok()?.lines().next()?.trim().parse().ok())
        .collect()
}

/// The letter of the process's state.
fn ask_state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn children(parent: u32) -> Vec<u32> {
    let of = format!("/proc/{parent}/task/{parent}/children");
    std::fs::read_to_string(of).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Processes whose working directory is in a folder.
fn processes_in(folder: &Path) -> impl Iterator<Item = u32> {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.unwrap().file_name().to_str()?.parse().ok());
    all.filter(move |pid: &u32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder)))
}

fn is_alive(pid: u32) -> bool {
    ask_state(pid).is_some_and(|state| state != 'Z')
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
