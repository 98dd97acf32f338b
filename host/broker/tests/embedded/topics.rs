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

#[test]
fn partitions_are_added_behind_those_that_there_are_and_never_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let id = {
        let log = log(dir.path(), 2, 1 << 20);
        put(&log, &at(1), None, b"one");
        assert!(matches!(log.append(&at(4), &set(["x"])), Err(BrokerError::UnknownPartition { partitions: 2, .. })));
        let grown = log.add_partitions("t", 5).unwrap();
        assert_eq!(grown.spec.partitions, 5);
        assert_eq!((put(&log, &at(4), None, b"new"), put(&log, &at(1), None, b"two")), (0, 1));
        assert_eq!(log.add_partitions("t", 5).unwrap(), grown);
        for fewer in [4, 1] {
            let refused = log.add_partitions("t", fewer);
            assert!(matches!(refused, Err(BrokerError::PartitionsDiffer { existing: 5, .. })), "{refused:?}");
        }
        assert!(matches!(log.add_partitions("t", 257), Err(BrokerError::BadTopic { .. })));
        assert!(matches!(log.add_partitions("u", 2), Err(BrokerError::UnknownTopic { .. })));
        grown.id
    };
    let read_only = once_unlocked(|| EmbeddedLog::open_read_only(dir.path()));
    assert!(matches!(read_only.add_partitions("t", 6), Err(BrokerError::ReadOnly)));
    drop(read_only);
    let log = once_unlocked(|| EmbeddedLog::open(dir.path(), LogOptions::default()));
    assert_eq!(log.topic("t").unwrap().unwrap().id, id);
    assert_eq!(read_all(&log, &at(4)).unwrap(), [(0, None, b"new".to_vec())]);
    assert_eq!(read_all(&log, &at(1)).unwrap().len(), 2);
}

#[test]
fn whatever_a_crash_leaves_of_partitions_that_were_added_the_old_or_the_new_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    let before = log(&old, 2, 1 << 20);
    put(&before, &at(0), None, b"kept");
    drop(before);
    copy(&old, &new);
    drop(log_with(&new, 4));
    let file = |dir: &std::path::Path, name: &str| dir.join("t").join(name);
    // Step by step: the first partition half made, whole, both whole, the file written and not yet in place.
    for step in 0..4 {
        let crashed = dir.path().join(format!("crashed-{step}"));
        copy(&old, &crashed);
        match step {
            0 => std::fs::create_dir(file(&crashed, ".unfinished-2")).unwrap(),
            _ => copy(&file(&new, "2"), &file(&crashed, "2")),
        }
        if step > 1 {
            copy(&file(&new, "3"), &file(&crashed, "3"));
        }
        if step > 2 {
            std::fs::copy(file(&new, "topic.json"), file(&crashed, "topic.tmp")).unwrap();
        }
        for partitions in [2, 4] {
            let log = EmbeddedLog::open(&crashed, small(1 << 20)).unwrap();
            let there = log.topic("t").unwrap().unwrap().spec.partitions;
            assert_eq!(there, 2, "step {step}: nothing half added is there");
            assert_eq!(read_all(&log, &at(0)).unwrap(), [(0, None, b"kept".to_vec())]);
            log.add_partitions("t", partitions).unwrap();
        }
        let log = EmbeddedLog::open(&crashed, small(1 << 20)).unwrap();
        assert_eq!(put(&log, &at(3), None, b"x"), 0, "step {step}");
    }
    // Records in a partition that the topic does not know are somebody's, and nothing is put on top of them.
    let lost = dir.path().join("lost");
    copy(&new, &lost);
    let log = EmbeddedLog::open(&lost, small(1 << 20)).unwrap();
    put(&log, &at(3), None, b"somebody's");
    drop(log);
    std::fs::copy(file(&old, "topic.json"), file(&lost, "topic.json")).unwrap();
    let log = EmbeddedLog::open(&lost, small(1 << 20)).unwrap();
    let refused = log.add_partitions("t", 4);
    assert!(matches!(refused, Err(BrokerError::BadFile { .. })), "{refused:?}");
}

fn log_with(dir: &std::path::Path, partitions: u32) -> EmbeddedLog {
    let log = EmbeddedLog::open(dir, small(1 << 20)).unwrap();
    log.add_partitions("t", partitions).unwrap();
    log
}

#[test]
fn a_deleted_topic_is_gone_for_good_and_its_name_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path(), 2, 1 << 20);
    put(&log, &at(1), None, b"old");
    let id = log.topic("t").unwrap().unwrap().id;
    log.delete_topic("t").unwrap();
    assert!(matches!(log.delete_topic("t"), Err(BrokerError::UnknownTopic { .. })));
    assert!(matches!(log.append(&at(0), &set(["x"])), Err(BrokerError::UnknownTopic { .. })));
    assert!(!dir.path().join("t").exists() && !dir.path().join(".unfinished-t").exists());
    log.maintain().unwrap();
    let again = log.create_topic(&TopicSpec::new("t", 1)).unwrap();
    assert_ne!(again.id, id);
    assert_eq!(put(&log, &at(0), None, b"new"), 0);
    drop(log);
    // Killed after the rename and before the last file was gone.
    std::fs::rename(dir.path().join("t"), dir.path().join(".unfinished-t")).unwrap();
    let log = EmbeddedLog::open(dir.path(), small(1 << 20)).unwrap();
    assert_eq!(log.topics().unwrap(), []);
    assert!(!dir.path().join(".unfinished-t").exists());
}

/// A child that another test is just starting has this process's lock until it has begun.
fn once_unlocked(open: impl Fn() -> Result<EmbeddedLog, BrokerError>) -> EmbeddedLog {
    for _ in 0..200 {
        match open() {
            Err(BrokerError::Locked { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("it stays locked");
}
