//! Tests of the config as a user meets it: files in, values or messages out.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// A config file in a folder of its own.
struct Written {
    _folder: TempDir,
    path: PathBuf,
}

impl Written {
    fn new(yaml: &str) -> Self {
        let folder = TempDir::new().expect("a scratch folder");
        let path = folder.path().join("clickmill.yaml");
        fs::write(&path, yaml).expect("writes the file");
        Self { _folder: folder, path }
    }

    fn load(&self, layers: &Layers) -> Result<Config, String> {
        let shown = self.path.display().to_string();
        Config::load(Some(&self.path), layers).map_err(|error| error.to_string().replace(&shown, "clickmill.yaml"))
    }
}

fn load(yaml: &str) -> Result<Config, String> {
    Written::new(yaml).load(&Layers::default())
}

fn message(yaml: &str) -> String {
    load(yaml).expect_err("the config is wrong")
}

fn env(variables: &[(&str, &str)]) -> Overrides {
    Overrides::from_env(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
}

/// Every key path of a tree, list items under one name.
fn keys(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                keys(value, &path, into);
                into.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| keys(item, &format!("{path}[]"), into)),
        _ => {}
    }
}

#[test]
fn the_commented_example_holds_every_key_with_its_default() {
    assert_eq!(load(default_yaml()), Ok(Config::default()));
    let (mut written, mut known) = (BTreeSet::new(), BTreeSet::new());
    keys(&serde_saphyr::from_str(default_yaml()).expect("is YAML"), "", &mut written);
    keys(&serde_json::to_value(Config::default()).expect("serializes"), "", &mut known);
    assert_eq!(written, known);
}

#[test]
fn the_defaults_are_a_config_that_can_be_used() {
    assert_eq!(check::problems(&Config::default()), []);
}

#[test]
fn panes_with_more_keys_than_an_append_can_take_are_refused() {
    let yaml = |bytes: usize| {
        format!("stages:\n  - name: validate\n  - name: ctr-window\n    params: {{max_pane_key_bytes: \"{bytes}\"}}\n")
    };
    assert!(load(&yaml(12 << 20)).is_ok());
    let refusal = load(&yaml(13 << 20)).expect_err("is too much");
    assert!(refusal.contains("stages[1].params") && refusal.contains("broker.max_batch_bytes"), "{refusal}");
}

#[test]
fn an_empty_file_and_one_of_comments_are_the_defaults() {
    for yaml in ["", "\n\n", "# nothing here\n", "---\n", "{}"] {
        assert_eq!(load(yaml), Ok(Config::default()), "{yaml:?}");
    }
}

#[test]
fn a_file_changes_what_it_names_and_nothing_else() {
    let config = load("pipeline:\n  commit_interval_ms: 100\nsinks:\n  redis: {enabled: false}\n").expect("loads");
    let mut expected = Config::default();
    expected.pipeline.commit_interval_ms = 100;
    expected.sinks.redis.enabled = false;
    assert_eq!(config, expected);
}

#[test]
fn parameters_of_stages_are_text_even_where_they_look_like_numbers() {
    let config = load("stages:\n  - name: ctr-window\n    params:\n      max_keys: 50\n      dimensions: total,C14\n");
    let stages = config.expect("loads").stages;
    assert_eq!(stages.len(), 1);
    assert_eq!(stages[0].name, "ctr-window");
    assert_eq!(stages[0].params["max_keys"], "50");
    assert_eq!(stages[0].params["dimensions"], "total,C14");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_keys_there_are() {
    assert_eq!(
        message("log:\n  filter: info\n  filte: debug\n"),
        "clickmill.yaml:3:3: unknown key `filte` in `log`; valid keys: filter"
    );
    assert_eq!(
        message("servers: {}\n"),
        "clickmill.yaml:1:1: unknown key `servers` at the top; \
         valid keys: data_dir, server, broker, pipeline, dlq, slack, engine, stages, connectors, sinks, log"
    );
    let deep = message("broker:\n  topics:\n    ad_events_raw:\n      partition: 4\n");
    assert!(
        deep.starts_with("clickmill.yaml:4:7: unknown key `partition` in `broker.topics.ad_events_raw`;"),
        "{deep}"
    );
    let listed = message("stages:\n  - name: validate\n    parms: {}\n");
    assert!(listed.starts_with("clickmill.yaml:3:5: unknown key `parms` in `stages[0]`;"), "{listed}");
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_its_place_and_key() {
    let text = message("pipeline:\n  commit_interval_ms: often\n");
    assert!(text.starts_with("clickmill.yaml:2:23: `pipeline.commit_interval_ms`: "), "{text}");
    let text = message("broker:\n  kind: kafka\n");
    assert_eq!(text, "clickmill.yaml:2:9: `broker.kind`: unknown value `kafka`; valid values: embedded");
    let text = message("server:\n  listen: localhost\n");
    assert!(text.starts_with("clickmill.yaml:2:11: `server.listen`: `localhost` is not an IP address"), "{text}");
    let text = message("server: 8088\n");
    assert_eq!(text, "clickmill.yaml:1:9: `server`: must be a mapping of keys");
    assert_eq!(message("data_dir:\n"), "clickmill.yaml:1:9: `data_dir`: must have a value");
    assert_eq!(message("stages: validate\n"), "clickmill.yaml:1:9: `stages`: must be a list");
    assert_eq!(message("stages: [params: {}]\n"), "clickmill.yaml:1:10: `stages[0]`: the key `name` is missing");
    assert_eq!(message("[]\n"), "clickmill.yaml:1:1: must be a mapping of keys");
}

#[test]
fn broken_yaml_and_doubled_keys_are_named_with_their_place() {
    let text = message("server: {enabled: true\npipeline:\n");
    assert!(text.starts_with("clickmill.yaml:"), "{text}");
    let text = message("log: {filter: info}\nlog: {filter: debug}\n");
    assert!(text.starts_with("clickmill.yaml:2:1: ") && text.ends_with("the key `log` is there twice"), "{text}");
    let folder = Written::new("");
    fs::write(&folder.path, b"data_dir: \xff\n").expect("writes");
    assert_eq!(folder.load(&Layers::default()).expect_err("fails"), "clickmill.yaml: byte 10 is not valid UTF-8");
}

#[test]
fn values_out_of_range_are_all_named_at_once_each_with_its_place() {
    let text = message("broker:\n  sync_interval_ms: 11\n  topics:\n    ad_events_raw: {partitions: 0}\n");
    let expected = [
        "clickmill.yaml:2:21: `broker.sync_interval_ms` is 11, but must be from 0 to 10",
        "clickmill.yaml:4:33: `broker.topics.ad_events_raw.partitions` is 0, but must be from 1 to 1024",
    ];
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let text = message("server:\n  max_body_bytes: 4096\n  max_body_bytes_in_flight: 4095\n");
    assert!(
        text.starts_with("clickmill.yaml:3:29: `server.max_body_bytes_in_flight` is 4095, but must be from 4096"),
        "{text}"
    );
}

#[test]
fn a_chain_that_cannot_work_is_refused() {
    let cases = [
        ("stages: []\n", "clickmill.yaml:1:9: `stages` must name at least one module"),
        (
            "stages: [{name: enrich}, {name: enrich}]\n",
            "clickmill.yaml:1:33: `stages[1].name` `enrich` is in the chain",
        ),
        (
            "stages: [{name: ctr-window}, {name: enrich}]\n",
            "clickmill.yaml:1:17: `stages[0].name` `ctr-window` must be",
        ),
        (
            "stages:\n- {name: enrich, params: {pricing: x}, param_files: {pricing: y}}\n",
            "clickmill.yaml:2:53: `stages[0].param_files` sets `pricing`, which `params` sets too",
        ),
        ("stages: [{name: validate, params: {clickmill.first: x}}]\n", "clickmill.yaml:1:10: `stages[0]` must not set"),
    ];
    for (yaml, expected) in cases {
        let text = message(yaml);
        assert!(text.starts_with(expected), "{yaml:?} gave {text:?}");
    }
}

#[test]
fn beyond_loopback_a_token_is_required() {
    let open = "server:\n  listen: 0.0.0.0:8088\n";
    let text = message(open);
    assert!(text.starts_with("clickmill.yaml:2:11: `server.listen` is 0.0.0.0:8088, which others can reach"), "{text}");
    assert!(load(&format!("{open}  token: s3cret-0123456789\n")).is_ok());
    assert!(load(&format!("{open}  enabled: false\n")).is_ok());
    let layers = Layers { env: env(&[("CLICKMILL_TOKEN", "s3cret-0123456789")]), flags: Overrides::default() };
    assert!(Written::new(open).load(&layers).is_ok());
    for bad in ["short", "has a blank 0123456789", ""] {
        let text = message(&format!("server: {{token: \"{bad}\"}}\n"));
        assert!(text.starts_with("clickmill.yaml:1:17: `server.token` must have at least 16"), "{text}");
    }
}

#[test]
fn flags_stand_over_the_environment_and_that_over_the_file() {
    let file = Written::new("data_dir: from-file\nserver: {listen: \"127.0.0.1:1\"}\n");
    let everything = env(&[
        ("CLICKMILL_DATA_DIR", "from-env"),
        ("CLICKMILL_LISTEN", "127.0.0.1:2"),
        ("DATABASE_URL", "postgres://env/db"),
        ("REDIS_URL", "redis://env"),
        ("CLICKMILL_TOKEN", "abcdefghijklmnop"),
    ]);
    let over_file = file.load(&Layers { env: everything.clone(), flags: Overrides::default() }).expect("loads");
    assert_eq!(over_file.data_dir, PathBuf::from("from-env"));
    assert_eq!(over_file.server.listen.port(), 2);
    assert_eq!(over_file.sinks.postgres.url.as_ref().map(Secret::expose), Some("postgres://env/db"));
    assert_eq!(over_file.sinks.redis.url.as_ref().map(Secret::expose), Some("redis://env"));
    assert_eq!(over_file.server.token.as_ref().map(Secret::expose), Some("abcdefghijklmnop"));

    let flags = Overrides {
        data_dir: Some("from-flag".into()),
        listen: Some("127.0.0.1:3".to_owned()),
        ..Overrides::default()
    };
    let over_env = file.load(&Layers { env: everything, flags }).expect("loads");
    assert_eq!(over_env.data_dir, PathBuf::from("from-flag"));
    assert_eq!(over_env.server.listen.port(), 3);
    assert_eq!(over_env.sinks.redis.url.as_ref().map(Secret::expose), Some("redis://env"));

    let empty = Layers { env: env(&[("CLICKMILL_DATA_DIR", ""), ("CLICKMILL_LISTEN", "")]), ..Layers::default() };
    assert_eq!(file.load(&empty).expect("loads").data_dir, PathBuf::from("from-file"));
}

#[test]
fn a_wrong_value_from_a_layer_names_the_variable_or_the_flag() {
    let file = Written::new("sinks: {redis: {url: \"redis://fine\"}}\n");
    let layers = Layers { env: env(&[("REDIS_URL", "http://:password@here")]), flags: Overrides::default() };
    let text = file.load(&layers).expect_err("no Redis URL");
    assert!(text.starts_with("environment variable REDIS_URL: `sinks.redis.url` must begin with redis://"), "{text}");
    assert!(!text.contains("password"), "{text}");

    let flags = Overrides { listen: Some("nowhere".to_owned()), ..Overrides::default() };
    let text = file.load(&Layers { env: Overrides::default(), flags }).expect_err("no address");
    assert!(text.starts_with("--listen: `nowhere` is not an IP address"), "{text}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let missing = PathBuf::from("/nowhere/clickmill.yaml");
    let text = Config::load(Some(&missing), &Layers::default()).expect_err("missing").to_string();
    assert!(text.starts_with("there is no config file /nowhere/clickmill.yaml"), "{text}");
}

#[test]
fn tokens_and_urls_are_not_shown() {
    let config =
        load("server: {token: s3cret-0123456789}\nsinks: {postgres: {url: \"postgres://u:s3cret-0123456789@h/d\"}}\n")
            .expect("loads");
    assert!(!format!("{config:?}").contains("s3cret-0123456789"));
    assert!(!serde_json::to_string(&config).expect("serializes").contains("s3cret-0123456789"));
    // Nor by a mistake elsewhere in the file, whose message could quote the lines around it.
    let text = message("server:\n  token: s3cret-0123456789\n  request_timeout_ms: soon\n");
    assert!(!text.contains("s3cret-0123456789"), "{text}");
}
