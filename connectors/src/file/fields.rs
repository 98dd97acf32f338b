//! What may stand in a connector file: the keys of all types and of each.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::field::{Field, Kind, Problem, schema};
use super::get;
use super::node::{Node, Value};

/// The shape of the files that this program reads.
pub const API_VERSION: &str = "0.1.0";

/// Kinds of connectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    PostgresSink,
    RedisSink,
    ParquetSink,
    HttpSink,
}

impl Type {
    pub const ALL: [Self; 4] = [Self::PostgresSink, Self::RedisSink, Self::ParquetSink, Self::HttpSink];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PostgresSink => "postgres-sink",
            Self::RedisSink => "redis-sink",
            Self::ParquetSink => "parquet-sink",
            Self::HttpSink => "http-sink",
        }
    }

    /// The key of its own section.
    #[must_use]
    pub const fn section(self) -> &'static str {
        match self {
            Self::PostgresSink => "postgres",
            Self::RedisSink => "redis",
            Self::ParquetSink => "parquet",
            Self::HttpSink => "http",
        }
    }

    /// What a file of this type may hold.
    const fn file(self) -> &'static [Field] {
        match self {
            Self::PostgresSink => const { &top(Self::PostgresSink) },
            Self::RedisSink => const { &top(Self::RedisSink) },
            Self::ParquetSink => const { &top(Self::ParquetSink) },
            Self::HttpSink => const { &top(Self::HttpSink) },
        }
    }

    const fn fields(self) -> &'static [Field] {
        match self {
            Self::PostgresSink => POSTGRES,
            Self::RedisSink => REDIS,
            Self::ParquetSink => PARQUET,
            Self::HttpSink => HTTP,
        }
    }

    const fn meta(self) -> &'static [Field] {
        match self {
            Self::PostgresSink | Self::RedisSink | Self::ParquetSink => META,
            Self::HttpSink => META_OF_ANY_TOPIC,
        }
    }
}

const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, required: false, doc }
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Field {
    Field { name, kind, required: true, doc }
}

const TYPES: &[&str] =
    &[Type::PostgresSink.name(), Type::RedisSink.name(), Type::ParquetSink.name(), Type::HttpSink.name()];
const OTHER_RUN: Kind = Kind::OneOf(&["refuse", "replace", "keep"]);

const CONSUMER: &[Field] = &[
    optional(
        "max_bytes",
        Kind::Integer { least: 64 << 10, most: 256 << 20 },
        "Most bytes of records in one transaction, about. Default 2 MiB.",
    ),
    optional(
        "linger_ms",
        Kind::Integer { least: 0, most: 10_000 },
        "How long a transaction waits for more records. Default 5.",
    ),
    optional(
        "timeout_ms",
        Kind::Integer { least: 1_000, most: 3_600_000 },
        "Time that a server may take for one answer before what is under way is tried again. Default 60000.",
    ),
];

const SECRET: &[Field] = &[required("name", Kind::Name, "The secret's name.")];

const fn meta(topic: Field) -> [Field; 6] {
    [
        required("name", Kind::Name, "The connector's name: its offset is kept under it."),
        required("type", Kind::OneOf(TYPES), "What it writes to."),
        required("version", Kind::Text, "Version of the connector that the file was written for."),
        topic,
        optional("secrets", Kind::List(&Kind::Map(SECRET)), "Secrets that `${{ secrets.NAME }}` may stand for."),
        optional("consumer", Kind::Map(CONSUMER), "How much is read and written at once."),
    ]
}

const META: &[Field] = &meta(required(
    "topic",
    Kind::OneOf(&["ctr_windows"]),
    "The topic that it copies: sinks of windows know no other.",
));
const META_OF_ANY_TOPIC: &[Field] = &meta(required(
    "topic",
    Kind::OneOf(&["ctr_windows", "ad_events_raw", "ad_events_error"]),
    "The topic that it copies, all its partitions.",
));

pub(super) const CA_FILE: &str = "tls_ca_file";

const POSTGRES: &[Field] = &[
    optional(
        CA_FILE,
        Kind::Text,
        "PEM file of the authorities that the server's certificate must come from; with one, all is encrypted. Default: with \
         sslmode=verify-full in the address those that the system knows, else nobody is asked for a certificate.",
    ),
    optional(
        "url",
        Kind::Url(&["postgres", "postgresql"]),
        "The database. Default: a private server under the data directory.",
    ),
    optional("on_other_run", OTHER_RUN, "What to do where it holds another run's rows. Default refuse."),
    optional(
        "errors_retention_days",
        Kind::Integer { least: 1, most: 36_500 },
        "Days that errors.dlq_messages and errors.retry_history keep. Default 90.",
    ),
    optional("raw_events", Kind::Bool, "Also copy the input topic into realtime.raw_events. Default false."),
    optional(
        "statement_timeout_ms",
        Kind::Integer { least: 0, most: 3_600_000 },
        "Time that one statement may take before it is tried again, less than meta.consumer.timeout_ms; 0 for any. Default 30000, \
         or half of timeout_ms.",
    ),
    optional(
        "pool_size",
        Kind::Integer { least: 1, most: 100 },
        "Most connections at once: the sinks of windows and of raw events take turns. Default 4.",
    ),
];

const REDIS: &[Field] = &[
    optional(
        CA_FILE,
        Kind::Text,
        "PEM file of the authorities that a rediss:// server's certificate must come from. Default: those that the system knows.",
    ),
    optional(
        "url",
        Kind::Url(&["redis", "rediss", "unix", "redis+unix"]),
        "The server. Default: a private one under the data directory.",
    ),
    optional("on_other_run", OTHER_RUN, "What to do where it holds another run's windows. Default refuse."),
    optional(
        "max_keys",
        Kind::Integer { least: 1_000, most: 1 << 26 },
        "Most keys in memory, over all windows that are not final. Default 300000.",
    ),
];

const PARQUET: &[Field] = &[
    optional(
        "url",
        Kind::Url(&["file", "s3", "gs"]),
        "Where the files lie: file:///folder, s3://bucket/prefix or gs://bucket/prefix. Default: processed/windows in the data directory.",
    ),
    optional(
        "offsets_per_file",
        Kind::Integer { least: 1_000, most: 10_000_000 },
        "A file covers so many offsets of the topic. Default 100000.",
    ),
    optional("access_key_id", Kind::Text, "Access key of S3. Default: as AWS's own tools find theirs."),
    optional("secret_access_key", Kind::Text, "Its secret."),
    optional("region", Kind::Text, "Region of S3. Default us-east-1."),
    optional("endpoint", Kind::Url(&["https", "http"]), "A server that speaks S3, as MinIO does. Default: AWS's own."),
    optional("allow_http", Kind::Bool, "Take an endpoint without TLS. Default false."),
    optional(
        "service_account_key",
        Kind::Text,
        "Key of a service account (JSON) for GCS. Default: as Google's own tools find theirs.",
    ),
];

const HTTP: &[Field] = &[
    optional("endpoint", Kind::Url(&["https", "http"]), "Where batches are sent. Without one the connector is off."),
    optional("method", Kind::OneOf(&["POST", "PUT"]), "Default POST."),
    optional(
        "headers",
        Kind::List(&Kind::Header(crate::http::PLACEHOLDERS)),
        "Headers as `Name: value`; {topic}, {partition}, {first_offset}, {last_offset}, {records} and {connector} are filled in.",
    ),
    optional("max_records", Kind::Integer { least: 1, most: 100_000 }, "Most records in one batch. Default 500."),
];

/// What a file of this version and type may hold; none where it does not say which it is.
pub(super) fn of(file: &Node, problems: &mut Vec<Problem>) -> Option<Kind> {
    let mut problem = |at, message| problems.push(Problem { at, message });
    if !matches!(file.value, Value::Map(_)) {
        problem(
            file.at,
            format!(
                "the file is {}: it must be a mapping with apiVersion, meta and a section of its type",
                file.value.what()
            ),
        );
        return None;
    }
    match get(file, "apiVersion").map(|node| (node.at, &node.value)) {
        Some((_, Value::Text(version))) if version == API_VERSION => {}
        Some((at, Value::Text(version))) => problem(
            at,
            format!(
                "apiVersion {version} is not known: this program reads {API_VERSION}; use the clickmill that the file was written for"
            ),
        ),
        Some((at, other)) => {
            problem(at, format!("`apiVersion` is {}: it must be the text {API_VERSION}", other.what()))
        }
        None => {} // missing: the check says so
    }
    let named = get(file, "meta").and_then(|meta| get(meta, "type"));
    let r#type = named.and_then(|node| match &node.value {
        Value::Text(name) => Type::ALL.into_iter().find(|r#type| r#type.name() == name),
        _ => None,
    });
    // Which section is its own is not known: the others are not to be told as unknown keys.
    let fields = r#type.map_or(ANY, Type::file);
    Some(Kind::Map(fields))
}

const API: Field = required("apiVersion", Kind::Text, "The shape of this file: 0.1.0.");

const TRANSFORMS: Field = optional(
    "transforms",
    Kind::List(&Kind::Map(&[
        required(
            "uses",
            Kind::Text,
            "The module: the path of a .wasm file, from this file's folder, or a stage's name.",
        ),
        optional("with", Kind::Texts, "The module's parameters."),
    ])),
    "SmartModules that the records go through on their way, in this order.",
);

/// Of a file that does not say which it is.
const ANY: &[Field] = &[
    API,
    meta_field(META_OF_ANY_TOPIC),
    TRANSFORMS,
    optional("postgres", Kind::Map(POSTGRES), "Section of a postgres-sink."),
    optional("redis", Kind::Map(REDIS), "Section of a redis-sink."),
    optional("parquet", Kind::Map(PARQUET), "Section of a parquet-sink."),
    optional("http", Kind::Map(HTTP), "Section of an http-sink."),
];

const fn meta_field(fields: &'static [Field]) -> Field {
    required("meta", Kind::Map(fields), "What it is, and what it reads.")
}

const fn top(r#type: Type) -> [Field; 4] {
    let section = optional(r#type.section(), Kind::Map(r#type.fields()), "The section of its type.");
    [API, meta_field(r#type.meta()), TRANSFORMS, section]
}

/// The JSON Schema of connector files, for editors.
#[must_use]
pub fn json_schema() -> Json {
    let of_type = |r#type: Type| {
        let mut schema = schema(&Kind::Map(r#type.file()));
        schema["properties"]["apiVersion"] = json!({"const": API_VERSION});
        schema["properties"]["meta"]["properties"]["type"] = json!({"const": r#type.name()});
        schema
    };
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A clickmill connector",
        "oneOf": Type::ALL.map(of_type),
    })
}
