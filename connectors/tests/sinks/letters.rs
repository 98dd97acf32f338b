//! Dead letters and attempts in schema `errors`, against a real server.

use clickmill_connectors::{Endpoint, PostgresOptions};
use clickmill_schemas::dead_letter::{DeadLetter, Judged, Origin, RawPayload};
use clickmill_schemas::dlq::{Attempt, DlqRecord, Letter, LetterId, LetterState, Outcome};
use clickmill_schemas::envelope::ErrorType;
use clickmill_schemas::record::RecordSetBuilder;
use clickmill_schemas::{DeploymentId, Epoch, ModuleDigest, Offset, PartitionId, RunId};

use crate::feed::{Feed, Running, T0};
use crate::lab::Lab;
use crate::pg::{ask, connect};

/// A letter of a record that was judged, with one attempt.
fn letter(run: RunId, origin: Origin, state: LetterState) -> DlqRecord {
    let judged = Judged {
        run,
        epoch: Epoch(1),
        stage: "parse".to_owned(),
        sha256: ModuleDigest([7; 32]),
        deployment: DeploymentId(1),
    };
    let letter = DeadLetter {
        payload: RawPayload::new(b"{"),
        error_type: ErrorType::Parsing,
        rule: "json".to_owned(),
        message: "no JSON".to_owned(),
        retry_count: 1,
        error_timestamp_ms: T0,
        origin,
        judged: Some(judged),
        stacktrace: None,
        retried_at: None,
        connector: None,
    };
    let attempt = Attempt {
        attempt: 1,
        at_ms: T0 + 1_000,
        deployment: None,
        outcome: Outcome::Rejected,
        rule: "json".to_owned(),
        message: String::new(),
    };
    DlqRecord::Letter(Box::new(Letter {
        id: LetterId::of(&letter),
        state,
        reason: String::new(),
        first_error_ms: T0,
        changed_at_ms: T0,
        due_at_ms: None,
        attempts: vec![attempt],
        edited: None,
        letter,
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_savepoint_takes_back_is_void_with_its_attempts() {
    let lab = Lab::new();
    let feed = Feed::new(lab.path(), 11);
    let options = PostgresOptions::default();
    let pool = options.pool(Endpoint::Private(lab.servers.clone()));
    let sink = Running::start(options.letters(&pool, &feed.source));
    let run = feed.run();
    let record = |partition, offset| Origin::Record {
        topic: "ad_events_raw".to_owned(),
        partition: PartitionId(partition),
        offset: Offset(offset),
    };
    let mut set = RecordSetBuilder::default();
    let mut push = |record: &DlqRecord| set.push(Some(record.key().as_bytes()), &record.encode(), T0);
    for (partition, offset) in [(1, 8), (1, 9), (1, 10), (1, 100), (0, 100), (10, 100)] {
        push(&letter(run, record(partition, offset), LetterState::Dead));
    }
    // Attempts are kept of letters that were not given up, too.
    push(&letter(run, record(1, 11), LetterState::Resolved));
    push(&letter(run, record(1, 7), LetterState::Resolved));
    // Named as a place is.
    push(&letter(run, Origin::Line { file: "1-12".to_owned(), line: 3 }, LetterState::Dead));
    push(&DlqRecord::Rewound { run, partition: PartitionId(1), as_of_offset: Offset(9) });
    push(&letter(run, record(1, 10), LetterState::Dead));
    feed.source.broker.append(&feed.source.letters, &set).unwrap().wait().unwrap();
    sink.reach(feed.source.broker.ends(&feed.source.letters).unwrap().end).await;
    let client = connect(&lab).await;
    let ids =
        async |table: &str| ask(&client, &format!("SELECT id FROM errors.{table} ORDER BY id COLLATE \"C\"")).await;
    assert_eq!(ids("dlq_messages").await, ["0-100", "1-10", "1-12:3", "1-8", "10-100"]);
    assert_eq!(ids("retry_history").await, ["0-100", "1-10", "1-12:3", "1-7", "1-8", "10-100"]);
    sink.stop().await;
}
