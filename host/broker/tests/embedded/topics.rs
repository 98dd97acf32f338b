//! Topics, their identity, who has the folder, and formats of the future.

use std::time::Duration;

use clickmill_broker::{Broker, BrokerError, EmbeddedLog, LogOptions, Retention, TopicSpec};

use crate::support::*;

#[test]
fn a_topic_keeps_its_identity_and_takes_over_new_settings_but_not_another_number_of_partitions() {
    let dir = tempfile::tempdir().unwrap();
    let mut spec = TopicSpec::new("t", 3);
    let (id, other) = {
        let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
        let id = log.create_topic(&spec).unwrap().id;
        spec.retention = Retention { max_age: Some(Duration::from_secs(60)), max_bytes: Some(1 << 30) };
        spec.compact = true;
        assert_eq!(log.create_topic(&spec).unwrap().id, id);
        (id, log.create_topic(&TopicSpec::new("other", 1)).unwrap().id)
    };
    assert_ne!(id, other);
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    let info = log.topic("t").unwrap().unwrap();
    assert_eq!((info.id, info.spec), (id, spec));
    let names: Vec<String> = log.topics().unwrap().into_iter().map(|t| t.spec.name).collect();
    assert_eq!(names, ["other", "t"]);
    assert_eq!(log.topic("none").unwrap(), None);
    let fewer = log.create_topic(&TopicSpec::new("t", 2));
    assert!(matches!(fewer, Err(BrokerError::PartitionsDiffer { existing: 3, asked: 2, .. })), "{fewer:?}");
    assert!(matches!(log.create_topic(&TopicSpec::new("../t", 2)), Err(BrokerError::BadTopic { .. })));
}

#[test]
fn a_second_one_is_told_who_has_the_folder_and_a_reader_only_reads() {
    let dir = tempfile::tempdir().unwrap();
    let writer = log(dir.path(), 1, 1 << 20);
    put(&writer, &at(0), None, b"one");
    writer.set_holder("http://127.0.0.1:8088").unwrap();
    for second in [EmbeddedLog::open(dir.path(), LogOptions::default()), EmbeddedLog::open_read_only(dir.path())] {
        let error = second.unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (http://127.0.0.1:8088)", std::process::id())), "{error}");
    }
    drop(writer);
    assert_eq!(EmbeddedLog::holder(dir.path()).unwrap(), None);
    let tail = segments(dir.path(), 0).pop().unwrap();
    let mut bytes = std::fs::read(&tail).unwrap();
    bytes.extend_from_slice(b"CMfr torn");
    std::fs::write(&tail, &bytes).unwrap();
    let reader = EmbeddedLog::open_read_only(dir.path()).unwrap();
    assert_eq!(read_all(&reader, &at(0)).unwrap(), [(0, None, b"one".to_vec())]);
    assert!(matches!(reader.append(&at(0), &set(["x"])), Err(BrokerError::ReadOnly)));
    assert!(matches!(reader.create_topic(&TopicSpec::new("u", 1)), Err(BrokerError::ReadOnly)));
    assert!(matches!(reader.maintain(), Err(BrokerError::ReadOnly)));
    assert_eq!(std::fs::read(&tail).unwrap(), bytes, "reading changed the file");
    let writer = EmbeddedLog::open(dir.path(), small(1 << 20)).unwrap();
    assert_eq!(put(&writer, &at(0), None, b"two"), 1);
}

#[test]
fn a_folder_of_a_newer_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(log(dir.path(), 1, 1 << 20));
    let file = dir.path().join("t/topic.json");
    let json = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, json.replace("\"format\": 1", "\"format\": 2, \"more\": []")).unwrap();
    match EmbeddedLog::open(dir.path(), LogOptions::default()) {
        Err(e @ BrokerError::NewerFormat { found: 2, known: 1, .. }) => {
            assert!(e.to_string().contains("topic.json"), "{e}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_topic_that_was_not_finished_is_not_there_and_can_be_made() {
    let dir = tempfile::tempdir().unwrap();
    drop(log(dir.path(), 1, 1 << 20));
    std::fs::rename(dir.path().join("t"), dir.path().join(".unfinished-t")).unwrap();
    let log = EmbeddedLog::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.topics().unwrap(), []);
    log.create_topic(&TopicSpec::new("t", 5)).unwrap();
    assert_eq!(put(&log, &at(4), None, b"x"), 0);
}
