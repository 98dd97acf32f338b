use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::OnOtherRun;

/// Variables and secrets by name.
#[derive(Default)]
struct Given(HashMap<&'static str, &'static str>);

impl Names for Given {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|value| (*value).to_owned())
    }

    fn secret(&self, name: &str) -> Option<String> {
        self.variable(name)
    }

    fn module(&self, wanted: &Wanted<'_>) -> Result<Arc<[u8]>, BadModule> {
        match (wanted.uses, wanted.with.get("salt").map(String::as_str)) {
            ("mask.wasm", None | Some("7")) => Ok(b"mask".as_slice().into()),
            ("mask.wasm", Some(salt)) => Err(BadModule::With(format!("{salt} is no number"))),
            _ => Err(BadModule::Uses("there is none".to_owned())),
        }
    }
}

const GOOD: &str = "\
apiVersion: 0.1.0
meta:
  name: my-postgres
  type: postgres-sink
  version: 0.1.0
  topic: ctr_windows
  secrets:
    - name: PASSWORD
  consumer:
    linger_ms: 20
postgres:
  url: postgres://me:${{ secrets.PASSWORD }}@${HOST}/clicks
  on_other_run: keep
";

fn parse(text: &str) -> Result<ConnectorFile, BadFile> {
    let names = Given(HashMap::from([("PASSWORD", "s3cret"), ("HOST", "db:5432")]));
    ConnectorFile::parse(Path::new("c.yaml"), text, &names)
}

/// What is said of a text in which `from` is replaced.
fn said(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string()
}

#[test]
fn a_file_is_read_with_its_variables_and_secrets() {
    let file = parse(GOOD).unwrap();
    assert_eq!((file.meta.name.as_str(), file.meta.r#type), ("my-postgres", Type::PostgresSink));
    assert_eq!((file.meta.consumer.linger_ms, file.meta.consumer.timeout_ms), (20, 60_000));
    let Connector::Postgres(options) = file.connector else { panic!("{:?}", file.connector) };
    assert_eq!(options.url.unwrap().0, "postgres://me:s3cret@db:5432/clicks");
    assert_eq!(
        (options.name.as_str(), options.on_other_run, options.batch.linger_ms),
        ("my-postgres", OnOtherRun::Keep, 20)
    );
}

#[test]
fn an_address_without_tls_is_a_mistake_where_authorities_are_named() {
    let url = "@${HOST}/clicks\n";
    let said = said(url, "@${HOST}/clicks?sslmode=disable\n  tls_ca_file: ca.pem\n");
    assert!(said.starts_with("c.yaml:12:8: `postgres.url`: sslmode=disable goes without TLS"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    for url in ["", "?sslmode=prefer", "?sslmode=verify-full"] {
        let good = format!("@${{HOST}}/clicks{url}\n  tls_ca_file: ca.pem\n");
        parse(&GOOD.replacen("@${HOST}/clicks\n", &good, 1)).unwrap();
    }
    let redis = "apiVersion: 0.1.0\nmeta: {name: r, type: redis-sink, version: 0.1.0, topic: ctr_windows}\nredis:\n";
    let of = |url: &str| parse(&format!("{redis}  url: {url}\n  tls_ca_file: ca.pem\n"));
    assert!(of("redis://h").unwrap_err().to_string().starts_with("c.yaml:4:8: `redis.url`: only rediss://"));
    of("rediss://h").unwrap();
}

#[test]
fn every_problem_is_told_with_its_line_and_column() {
    for (from, to, expected) in [
        (
            "  on_other_run: keep",
            "  on_other_rum: keep",
            "c.yaml:13:3: unknown key `on_other_rum` in `postgres`; valid keys: tls_ca_file, url",
        ),
        ("keep", "forget", "c.yaml:13:17: `postgres.on_other_run` is a text: it must be one of refuse, replace, keep"),
        (
            "linger_ms: 20",
            "linger_ms: soon",
            "c.yaml:10:16: `meta.consumer.linger_ms` is a text: it must be a whole number",
        ),
        ("linger_ms: 20", "linger_ms: -1", "c.yaml:10:16: `meta.consumer.linger_ms` is the number -1: it must be"),
        ("  topic: ctr_windows\n", "", "c.yaml:3:3: the key `topic` in `meta` is missing"),
        (
            "apiVersion: 0.1.0",
            "apiVersion: 9.9.0",
            "c.yaml:1:13: apiVersion 9.9.0 is not known: this program reads 0.1.0",
        ),
        (
            "type: postgres-sink",
            "type: mysql-sink",
            "c.yaml:4:9: `meta.type` is a text: it must be one of postgres-sink, redis-sink",
        ),
        ("    - name: PASSWORD", "    - name: OTHER", "c.yaml:12:8: the secret `PASSWORD` is not among `meta.secrets`"),
        ("${HOST}", "${NOHOST}", "c.yaml:12:8: the variable NOHOST is not in the environment"),
        ("${HOST}", "${HOST", "c.yaml:12:8: `${` without `}`"),
        (
            "url: postgres://",
            "url: mysql://",
            "c.yaml:12:8: `postgres.url` is a text: it must be an address that begins with postgres://",
        ),
        (
            "postgres:\n",
            "redis:\n",
            "unknown key `redis` at the top; valid keys: apiVersion, meta, transforms, postgres",
        ),
        ("ctr_windows", "ad_events_raw", "c.yaml:6:10: `meta.topic` is a text: it must be one of ctr_windows"),
    ] {
        let said = said(from, to);
        assert!(said.contains(expected), "{said}\ninstead of\n{expected}");
    }
}

#[test]
fn all_problems_of_a_file_are_told_at_once_in_order() {
    let bad = GOOD.replace("linger_ms: 20", "linger: 20").replace("keep", "no").replace("my-postgres", "my postgres");
    let error = parse(&bad).unwrap_err();
    let lines: Vec<u64> = error.problems.iter().map(|p| p.at.line).collect();
    assert_eq!(lines, [3, 10, 13], "{error}");
}

#[test]
fn what_is_no_yaml_or_no_mapping_is_said() {
    for text in ["", "- a", "a: [", "\u{0}", "a: b: c", "7"] {
        let error = parse(text).unwrap_err();
        assert!(!error.problems.is_empty() && !error.to_string().is_empty(), "{text:?}");
    }
}

/// Values that a key may be given instead of its own.
fn values() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        (-2_i64..100).prop_map(|n| json!(n)),
        "(x|keep|refuse|postgres://h|redis://h|postgres-sink|redis-sink|0\\.1\\.0|)".prop_map(|text| json!(text)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"name": "X"}])),
    ]
}

proptest! {
    /// The checker and the JSON Schema are made of one description: what the one lets pass, the other does too.
    #[test]
    fn the_json_schema_says_what_the_checker_says(changes in prop::collection::vec((0_usize..40, values()), 0..3)) {
        let mut file = json!({
            "apiVersion": "0.1.0",
            "meta": {"name": "n", "type": "postgres-sink", "version": "1", "topic": "ctr_windows", "secrets": [{"name": "S"}],
                     "consumer": {"max_bytes": 65536, "linger_ms": 2, "timeout_ms": 3000}},
            "postgres": {"url": "postgres://h", "on_other_run": "keep", "raw_events": true},
        });
        let places = [
            "/apiVersion", "/meta", "/meta/name", "/meta/type", "/meta/version", "/meta/topic", "/meta/secrets",
            "/meta/secrets/0", "/meta/secrets/0/name", "/meta/consumer", "/meta/consumer/max_bytes", "/meta/consumer/linger_ms",
            "/postgres", "/postgres/url", "/postgres/on_other_run", "/postgres/raw_events",
        ];
        for (at, value) in changes {
            if let Some(there) = file.pointer_mut(places[at % places.len()]) {
                *there = value;
            }
        }
        let checked = ConnectorFile::parse(Path::new("c.yaml"), &file.to_string(), &Given::default());
        let by_schema = jsonschema::validator_for(&json_schema()).unwrap().is_valid(&file);
        prop_assert_eq!(checked.is_ok(), by_schema, "{}\n{:?}", file, checked);
    }
}

#[test]
fn a_header_and_a_topic_are_ones_to_the_checker_and_to_the_schema() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let file = |r#type: &str, topic: &str, section: Json| {
        let meta = json!({"name": "n", "type": format!("{type}-sink"), "version": "1", "topic": topic});
        json!({"apiVersion": "0.1.0", "meta": meta, r#type: section})
    };
    let header = |line: &str| file("http", "ad_events_raw", json!({"headers": ["A: b", line]}));
    for (file, good) in [
        (header("X-Y:{topic}/{partition} \u{e9}"), true),
        (header("A:\t b"), true),
        (header("A:"), false),
        (header("A:  "), false),
        (header(": b"), false),
        (header("A b: c"), false),
        (header("A: {other}"), false),
        (header("A: {topic"), false),
        (header("A: b\nC: d"), false),
        (header("A b"), false),
        (file("http", "ad_events_error", json!({"endpoint": "https://h/p", "method": "PUT"})), true),
        (file("http", "deployments", json!({})), false),
        (file("http", "ctr_windows", json!({"endpoint": "ftp://h"})), false),
        (
            file("parquet", "ctr_windows", json!({"url": "s3://b/p", "offsets_per_file": 1000, "allow_http": true})),
            true,
        ),
        (file("parquet", "ad_events_raw", json!({})), false),
        (file("parquet", "ctr_windows", json!({"offsets_per_file": 1})), false),
    ] {
        let checked = ConnectorFile::parse(Path::new("c.yaml"), &file.to_string(), &Given::default());
        assert_eq!((checked.is_ok(), schema.is_valid(&file)), (good, good), "{file} {checked:?}");
    }
}

#[test]
fn what_the_program_comes_with_is_what_its_sinks_do_by_default() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("missing")] {
        let files = read_folder(&path, &Given::default()).unwrap();
        let connectors: Vec<_> = files.into_iter().map(|file| file.connector).collect();
        let (postgres, redis) = (PostgresOptions::default(), RedisOptions::default());
        let (parquet, http) = (ParquetOptions::default(), HttpOptions::default());
        let ours = [
            Connector::Postgres(postgres),
            Connector::Redis(redis),
            Connector::Parquet(parquet),
            Connector::Http(http),
        ];
        assert_eq!(connectors, ours);
    }
}

#[test]
fn of_a_folder_all_files_are_checked_and_a_name_is_given_once() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let plain = GOOD.replace("${{ secrets.PASSWORD }}@${HOST}", "p@h");
    put("a.yaml", &plain);
    put("b.yml", &plain.replace("my-postgres", "other"));
    put("notes.txt", "not a connector");
    let names = |files: Vec<ConnectorFile>| files.into_iter().map(|file| file.meta.name).collect::<Vec<_>>();
    assert_eq!(names(read_folder(folder.path(), &Given::default()).unwrap()), ["my-postgres", "other"]);
    put("c.yaml", &plain);
    put("d.yaml", "apiVersion: 7\n");
    let said = read_folder(folder.path(), &Given::default()).unwrap_err().to_string();
    assert!(
        said.contains("c.yaml:3:9: a connector named `my-postgres` is in") && said.contains("a.yaml too"),
        "{said}"
    );
    assert!(said.contains("d.yaml:1:13: `apiVersion`"), "{said}");
}

#[test]
fn modules_stand_before_raw_events_and_before_nothing_else() {
    let with = |transforms: &str, section: &str| {
        let text = GOOD.replace("postgres:\n", &format!("transforms:\n{transforms}postgres:\n{section}"));
        parse(&text)
    };
    let raw = "  raw_events: true\n";
    let file = with("  - uses: mask.wasm\n    with: {salt: 7}\n", raw).unwrap();
    let spec = &file.connector.transforms("ad_events_raw")[0];
    assert_eq!((&*spec.uses, &spec.with["salt"][..], &*spec.wasm), ("mask.wasm", "7", &b"mask"[..]));
    assert!(file.connector.transforms("ctr_windows").is_empty(), "windows go as they are");
    let said = |transforms: &str, section: &str| with(transforms, section).unwrap_err().to_string();
    for (transforms, expected) in [
        ("  - uses: hash\n", "c.yaml:12:11: `uses: hash`: there is none"),
        ("  - uses: mask.wasm\n    with: {salt: x}\n", "c.yaml:13:11: `with` of mask.wasm: x is no number"),
        (
            "  - uses: mask.wasm\n    with: {salt: '${{ secrets.PASSWORD }}'}\n",
            "c.yaml:13:11: `with` of mask.wasm: *** is no number",
        ),
        ("  - with: {}\n", "c.yaml:12:5: the key `uses` in `transforms[0]` is missing"),
        (
            "  - uses: mask.wasm\n    with: {salt: [1]}\n",
            "`transforms[0].with.salt` is a list: it must be a single value",
        ),
    ] {
        let told = said(transforms, raw);
        assert!(told.contains(expected), "{told}");
    }
    let told = said("  - uses: mask.wasm\n", "");
    assert!(
        told.contains("c.yaml:12:3: `transforms` has no place here") && told.contains("raw_events: true"),
        "{told}"
    );
}
