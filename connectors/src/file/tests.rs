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
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, rcgen::generate_simple_self_signed(["h".to_owned()]).unwrap().cert.pem()).unwrap();
    let ca = ca.display();
    let url = "@${HOST}/clicks\n";
    let said = said(url, &format!("@${{HOST}}/clicks?sslmode=disable\n  tls_ca_file: {ca}\n"));
    assert!(said.starts_with("c.yaml:12:8: `postgres.url`: sslmode=disable goes without TLS"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    for url in ["", "?sslmode=prefer", "?sslmode=verify-full"] {
        let good = format!("@${{HOST}}/clicks{url}\n  tls_ca_file: {ca}\n");
        parse(&GOOD.replacen("@${HOST}/clicks\n", &good, 1)).unwrap();
    }
    let redis = "apiVersion: 0.1.0\nmeta: {name: r, type: redis-sink, version: 0.1.0, topic: ctr_windows}\nredis:\n";
    let of = |url: &str| parse(&format!("{redis}  url: {url}\n  tls_ca_file: {ca}\n"));
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
fn secrets_stand_where_nothing_is_printed_and_nowhere_else() {
    let secret = "${{ secrets.PASSWORD }}";
    for (from, to, place) in [
        ("version: 0.1.0", format!("version: '{secret}'"), "c.yaml:5:12"),
        ("  topic: ctr_windows", format!("  topic: '{secret}'"), "c.yaml:6:10"),
        ("postgres:\n", format!("transforms: [{{uses: '{secret}'}}]\npostgres:\n"), "c.yaml:11:21"),
        ("postgres:\n", format!("transforms: ['{secret}']\npostgres:\n"), "c.yaml:11:14"),
        ("postgres:\n", format!("other: '{secret}'\npostgres:\n"), "c.yaml:11:8"),
    ] {
        let told = said(from, &to);
        assert!(told.contains(&format!("{place}: a secret has no place here")) && !told.contains("s3cret"), "{told}");
    }
    // What is there instead of a text is not told either.
    let keys = "access_key_id: 12345\n  secret_access_key: 83716254839\n  region: true";
    let text =
        GOOD.replace("postgres", "parquet").replace("url: parquet://me:${{ secrets.PASSWORD }}@${HOST}/clicks", keys);
    let told = parse(&text.replace("  on_other_run: keep\n", "")).unwrap_err().to_string();
    for (place, key) in [("12:18", "access_key_id"), ("13:22", "secret_access_key")] {
        let expected = format!("c.yaml:{place}: `parquet.{key}` is a number, without quotes: it must be a text");
        assert!(told.contains(&expected), "{told}");
    }
    assert!(!told.contains("8371") && !told.contains("1234") && !told.contains("true"), "{told}");
}

#[test]
fn what_a_connector_hides_of_its_own_needs_no_secret() {
    let plain = GOOD.replace("${{ secrets.PASSWORD }}", "${WORD}");
    let names = Given(HashMap::from([("WORD", "pl41n-word"), ("HOST", "db:5432")]));
    let file = ConnectorFile::parse(Path::new("c.yaml"), &plain, &names).unwrap();
    assert_eq!(file.connector.hidden().redact("no pg_hba.conf entry for pl41n-word"), "no pg_hba.conf entry for ***");
}

/// A file of a type with this section.
fn of_type(kind: &str, section: &str) -> String {
    let lines: String = section.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: 0.1.0\nmeta: {{name: c, type: {kind}-sink, version: '1', topic: ctr_windows}}\n{kind}:\n{lines}"
    )
}

#[test]
fn what_would_never_work_is_told_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate").unwrap();
    let empty = format!("tls_ca_file: {}", empty.display());
    for (kind, section, expected) in [
        ("postgres", "url: postgres://h:99999/db", "c.yaml:4:8: `postgres.url`: it is no address that can be used"),
        ("postgres", "url: postgres://h/db?sslmode=nonsense", "c.yaml:4:8: `postgres.url`: it is no address"),
        ("postgres", "url: postgres://me:s3cret@h:s3cret/db", "c.yaml:4:8: `postgres.url`: it is no address"),
        ("redis", "url: redis://h/first", "c.yaml:4:8: `redis.url`: it is no address that can be used"),
        ("redis", "url: redis://h:99999/0", "c.yaml:4:8: `redis.url`: it is no address that can be used"),
        ("http", "endpoint: http://h:99999/", "c.yaml:4:13: `http.endpoint`: it is no address that can be used"),
        ("postgres", "tls_ca_file: missing.pem", "c.yaml:4:16: `postgres.tls_ca_file`: tls_ca_file missing.pem: "),
        ("redis", &empty, "holds no certificate in PEM"),
        ("parquet", "access_key_id: a", "c.yaml:4:18: `parquet.access_key_id`: without `secret_access_key`"),
        ("parquet", "secret_access_key: a", "c.yaml:4:22: `parquet.secret_access_key`: without `access_key_id`"),
        ("parquet", "endpoint: http://h", "c.yaml:4:13: `parquet.endpoint`: it goes without TLS"),
        ("parquet", "service_account_key: s3cret", "c.yaml:4:24: `parquet.service_account_key`: it is no key"),
        ("http", "headers:\n- 'A: b'\n- 'Content-Length: 5'", "c.yaml:6:5: `http.headers[1]`: content-length is set"),
        ("http", "headers: ['idempotency-key: 5']", "c.yaml:4:13: `http.headers[0]`: idempotency-key is set"),
        ("postgres", "statement_timeout_ms: 60000", "c.yaml:4:25: `postgres.statement_timeout_ms`: 60000 is not less"),
    ] {
        let told = parse(&of_type(kind, section)).map(drop).unwrap_err().to_string();
        assert!(told.contains(expected) && !told.contains("s3cret"), "{told}\ninstead of\n{expected}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    for (kind, section) in [
        ("postgres", "url: postgres://me:pw@[::1]:5432,b:1/db?sslmode=verify-full\nstatement_timeout_ms: 0"),
        ("redis", "url: rediss://:pw@h:6379/15"),
        ("parquet", "access_key_id: a\nsecret_access_key: b\nendpoint: http://h:9000\nallow_http: true"),
        ("http", "endpoint: https://me:pw@h:444/p?q=r\nheaders: ['Content-Type: text/plain']"),
    ] {
        parse(&of_type(kind, section)).unwrap();
    }
    let empty = Given(HashMap::from([("PASSWORD", ""), ("HOST", "db:5432")]));
    let told = ConnectorFile::parse(Path::new("c.yaml"), GOOD, &empty).unwrap_err().to_string();
    assert_eq!(told, "c.yaml:12:8: the secret `PASSWORD` is there, and empty");
}

#[test]
fn a_statement_has_less_time_than_its_answer_is_waited_for() {
    let text = GOOD.replace("linger_ms: 20", "timeout_ms: 10000");
    let Connector::Postgres(options) = parse(&text).unwrap().connector else { panic!() };
    assert_eq!(options.statement_timeout_ms, 5_000);
}

#[test]
fn a_variable_stands_for_a_number_too() {
    let text = of_type("redis", "max_keys: ${KEYS}\non_other_run: ${KEEP}");
    let read = |keys: &'static str| {
        let names = Given(HashMap::from([("KEYS", keys), ("KEEP", "keep")]));
        ConnectorFile::parse(Path::new("c.yaml"), &text, &names)
    };
    let Connector::Redis(options) = read("5000").unwrap().connector else { panic!() };
    assert_eq!((options.max_keys, options.on_other_run), (5_000, OnOtherRun::Keep));
    let told = read("many").unwrap_err().to_string();
    assert!(told.starts_with("c.yaml:4:13: `redis.max_keys` is a text: it must be a whole number"), "{told}");
    assert!(read("7").unwrap_err().to_string().contains("is the number 7: it must be"));
    // What is written is not made a number of.
    assert!(parse(&of_type("redis", "max_keys: '5000'")).is_err());
}

#[test]
fn an_editor_takes_names_where_the_checker_does() {
    let schema = jsonschema::validator_for(&json_schema()).unwrap();
    let meta = json!({"name": "${NAME}", "type": "http-sink", "version": "1", "topic": "ctr_windows"});
    let headers = json!(["Authorization: Bearer ${{ secrets.TOKEN }}"]);
    let section =
        json!({"endpoint": "${{ secrets.URL }}", "headers": headers, "max_records": "${MOST}", "method": "${HOW}"});
    assert!(schema.is_valid(&json!({"apiVersion": "0.1.0", "meta": meta, "http": section})));
    let section = json!({"endpoint": "{{ secrets.URL }}"});
    assert!(!schema.is_valid(&json!({"apiVersion": "0.1.0", "meta": meta, "http": section})));
}

#[test]
fn what_no_file_can_hold_is_told_in_our_words_with_its_place() {
    for (text, expected) in [
        ("a: 1\na: 2\n", "c.yaml:2:1: the key `a` is there twice"),
        ("a: 1\n---\nb: 2\n", ": a second document begins here (`---`)"),
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.yaml");
    std::fs::write(&path, b"apiVersion: 0.1.0\nmeta: {name: \xc3\xa9\xff}\n").unwrap();
    let told = ConnectorFile::read(&path, &Given::default()).unwrap_err().to_string();
    assert!(told.ends_with("c.yaml:2:15: what begins here is not valid UTF-8"), "{told}");
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
    // One that is asked for by its name is read alone, and what the others lack is not asked.
    let named = |name: &str| read_named(folder.path(), name, &Given::default());
    assert_eq!(named("other").unwrap().unwrap().meta.name, "other");
    assert!(named("my-postgres").unwrap_err().to_string().contains("a.yaml too"));
    assert_eq!(named("third"), Ok(None));
    put("e.yaml", &GOOD.replace("my-postgres", "third"));
    let said = named("third").unwrap_err().to_string();
    assert!(said.contains("e.yaml:12:8: there is no secret `PASSWORD`"), "{said}");
    assert_eq!(
        connector_names(folder.path(), &Given::default()).unwrap(),
        ["my-postgres", "other", "my-postgres", "third"]
    );
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
