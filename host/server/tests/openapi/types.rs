//! What the pipeline and the sinks serialize, against the document: a field that is renamed or new shows here.

use std::collections::{BTreeMap, BTreeSet};

use clickmill_connectors::{SinkState, SinkStatus};
use clickmill_pipeline::blame::{Blame, Fate, StageBlame, WindowOf};
use clickmill_pipeline::deployment::body::DeployBody;
use clickmill_pipeline::deployment::canary::Canary;
use clickmill_pipeline::deployment::control::Deployed;
use clickmill_pipeline::deployment::plan::{
    Change, ModuleOf, ParamChange, Plan, StageChange, StateChange, StateVerdict,
};
use clickmill_pipeline::deployment::{Cause, LookBack, Stage};
use clickmill_pipeline::judge::{Cell, Matrix, Sample};
use clickmill_pipeline::module_log::{LineKind, ModuleLine};
use clickmill_pipeline::shadow::Report;
use clickmill_pipeline::topics::{Alter, Create, Limit, NoLimit};
use clickmill_pipeline::views::RunState;
use clickmill_pipeline::views::modules::{DeploymentView, StageView, Staged};
use clickmill_pipeline::views::status::ModuleView;
use clickmill_pipeline::why::{Holder, Waiting, WhyLate, WhyOpen};
use clickmill_schemas::{DeploymentId, ModuleDigest, Offset, PartitionId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::schema::{assert_is, document};

const SHA: ModuleDigest = ModuleDigest([0xab; 32]);
const ID: DeploymentId = DeploymentId(3);

fn began() -> BTreeMap<PartitionId, Offset> {
    BTreeMap::from([(PartitionId(0), Offset(7))])
}

fn params() -> BTreeMap<String, String> {
    BTreeMap::from([("date_from".into(), "2014-10-21".into())])
}

fn matrix() -> Matrix {
    let sample = Sample { partition: PartitionId(0), offset: Offset(1), message: "no".into(), value: "{".into() };
    let cell = Cell { old: "passed".into(), new: "rejected:json".into(), records: 1, samples: vec![sample] };
    Matrix { records: 1, flips: 1, cells: vec![cell] }
}

fn plan() -> Plan {
    let module = ModuleOf { name: "mask".into(), version: "1".into(), sha256: SHA };
    let param = ParamChange { name: "salt".into(), old: None, new: Some("x".into()) };
    let stage = |change, old, new| StageChange { stage: "mask".into(), change, old, new, params: vec![param.clone()] };
    let state = |verdict, to_version| StateChange {
        stage: "ctr-window".into(),
        partition: PartitionId(0),
        verdict,
        from_version: 1,
        to_version,
        bytes: 12,
    };
    Plan {
        changes: true,
        base: ID,
        stages: vec![
            stage(Change::Added, None, Some(module.clone())),
            stage(Change::Replaced, Some(module.clone()), Some(module.clone())),
        ],
        state: vec![state(StateVerdict::Compatible, Some(1)), state(StateVerdict::Reset, None)],
        reset_state: false,
        partitions: Some(BTreeSet::from([PartitionId(0)])),
        canary: Some(Canary {
            verdicts: matrix(),
            failures: 1,
            failure: Some("ad_events_raw/0@1: stage mask: no".into()),
            fuel_per_record_old: 10,
            fuel_per_record_new: 11,
            old_given_up: false,
        }),
    }
}

/// A component of words has exactly these.
fn assert_words(name: &str, words: &[impl Serialize]) {
    let told = &document()["components"]["schemas"][name]["enum"];
    let told: BTreeSet<_> = told.as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(told, words.iter().map(|word| json!(word).to_string()).collect(), "{name}");
}

#[test]
fn words_are_those_of_the_types() {
    assert_words("RunState", &[RunState::Running, RunState::Stopped]);
    assert_words("Change", &[Change::Added, Change::Replaced, Change::Removed, Change::Unchanged]);
    assert_words("StateVerdict", &[StateVerdict::Compatible, StateVerdict::Migrated, StateVerdict::Reset]);
    assert_words("Fate", &[Fate::Counted, Fate::Rejected, Fate::Late, Fate::Dropped, Fate::Waiting]);
    assert_words("LineKind", &[LineKind::Log, LineKind::Fault]);
    let began = [SinkState::Starting, SinkState::Running, SinkState::Retrying];
    let ended = [SinkState::Refused, SinkState::Failed, SinkState::Stopped];
    assert_words("SinkState", &[began, ended].concat());
}

#[test]
fn topics_are_as_the_document_has_them() {
    let mut made = Create {
        name: "mine".into(),
        partitions: 3,
        retention_max_age_hours: Some(1),
        retention_max_bytes: Some(2),
        compact: true,
    };
    assert_is("CreateTopic", &made);
    (made.retention_max_age_hours, made.retention_max_bytes) = (None, None);
    assert_is("CreateTopic", &made);
    assert_is("AlterTopic", &Alter::default());
    let (at, none) = (Some(Limit::At(1)), Some(Limit::None(NoLimit::None)));
    assert_is("AlterTopic", &Alter { partitions: Some(4), retention_max_age_hours: at, retention_max_bytes: none });
}

#[test]
fn deploys_are_as_the_document_has_them() {
    assert_is("DeployBody", &DeployBody::default());
    let text = || Some("x".to_owned());
    assert_is(
        "DeployBody",
        &DeployBody {
            stage: text(),
            wasm: Some("AGFzbQ==".into()),
            manifest: text(),
            before: text(),
            after: text(),
            params: params(),
            unset_params: vec!["a".into()],
            lookback: Some(LookBack { last: 3, age_ms: None }),
            message: "m".into(),
            partitions: Some(BTreeSet::from([PartitionId(1)])),
            reset_state: true,
            plan: true,
        },
    );
    assert_is("Plan", &plan());
    let nothing =
        Plan { changes: false, stages: Vec::new(), state: Vec::new(), partitions: None, canary: None, ..plan() };
    assert_is("Plan", &nothing);
    let waiting = BTreeMap::from([(PartitionId(1), "it recovers".to_owned())]);
    assert_is("Deployed", &Deployed { deployment: ID, changed: true, activations: began(), waiting, plan: plan() });
}

#[test]
fn stages_and_deployments_are_as_the_document_has_them() {
    let (stage, name, version) = (|| "mask".to_owned(), || "mask".to_owned(), || "1".to_owned());
    let view = StageView {
        stage: stage(),
        name: name(),
        version: version(),
        sha256: SHA,
        deployment: ID,
        activations: began(),
        params: params(),
        message: "first start".into(),
        staged: Some(Staged { deployment: ID, sha256: SHA, params: params(), activations: began() }),
    };
    assert_is("StageView", &view);
    let mut shown = serde_json::to_value(&view).unwrap();
    shown["manifest"] = Value::Null;
    assert_is("Shown", &shown);
    assert_is("Module", &ModuleView { stage: stage(), name: name(), version: version(), sha256: SHA });
    let causes = [
        Cause::Config,
        Cause::Deploy,
        Cause::Remove,
        Cause::Rollback { to: ID },
        Cause::Promote { of: ID },
        Cause::Breaker { undoes: ID },
        Cause::Reprocess,
        Cause::Switch { of: ID },
    ];
    for (cause, partitions) in causes.into_iter().zip([None, Some(vec![PartitionId(0)])].into_iter().cycle()) {
        let lookback = LookBack { last: 10, age_ms: Some(1_000) };
        let stage = Stage { stage: stage(), name: name(), version: version(), sha256: SHA, params: params(), lookback };
        let view = DeploymentView {
            deployment: ID,
            created_at_ms: 1,
            cause,
            message: String::new(),
            partitions,
            reset_state: false,
            stages: vec![stage],
            activations: began(),
        };
        assert_is("DeploymentView", &view);
    }
}

#[test]
fn a_shadow_and_a_sink_are_as_the_document_has_them() {
    let report = Report {
        stage: "mask".into(),
        name: "mask".into(),
        version: "1".into(),
        sha256: SHA,
        against: ID,
        since_ms: 1,
        from: began(),
        verdicts: matrix(),
        skipped: 0,
        share_seen: 1.0,
        failures: 0,
        fuel_per_record_old: 1,
        fuel_per_record_new: 2,
        nanos_per_record_old: 3,
        nanos_per_record_new: 4,
        ended: None,
    };
    assert_is("ShadowReport", &report);
    assert_is("ShadowReport", &Report { ended: Some("it failed".into()), ..report });
    let sink = SinkStatus {
        name: "postgres".into(),
        kind: "postgres".into(),
        topic: "ctr_windows".into(),
        partition: PartitionId(0),
        state: SinkState::Running,
        offset: Offset(1),
        lag: 0,
        rows_written: 1,
        skipped: 0,
        retries: 0,
        last_error: None,
        server: Some("127.0.0.1:5432".into()),
    };
    assert_is("Sink", &sink);
}

#[test]
fn answers_to_questions_are_as_the_document_has_them() {
    let stage = StageBlame {
        stage: "validate".into(),
        name: "validate".into(),
        version: "1".into(),
        sha256: SHA,
        deployment: ID,
        message: "first start".into(),
        params: params(),
        rule: Some("json".into()),
    };
    let mut blame = Blame {
        topic: "ad_events_raw".into(),
        partition: PartitionId(0),
        offset: Offset(9),
        fate: Fate::Rejected,
        reason: Some("json".into()),
        message: Some("not JSON".into()),
        deployment: Some(ID),
        stages: vec![stage],
        ts_ms: Some(1),
        watermark_ms: Some(2),
        windows: vec![WindowOf { size: "1m".into(), start_ms: 0 }],
    };
    assert_is("Blame", &blame);
    (blame.reason, blame.message, blame.deployment) = (None, None, None);
    (blame.ts_ms, blame.watermark_ms) = (None, None);
    assert_is("Blame", &blame);
    let holder = Some(Holder { offset: Offset(1), ts_ms: 2 });
    let mut late = WhyLate {
        partition: PartitionId(0),
        offset: Offset(9),
        ts_ms: 1,
        pane_end_ms: 2,
        closes_at_ms: 3,
        watermark_ms: 4,
        late_by_ms: 1,
        holder,
    };
    assert_is("WhyLate", &late);
    late.holder = None;
    assert_is("WhyLate", &late);
    let waiting = |ms, newest_offset| Waiting {
        partition: PartitionId(0),
        watermark_ms: ms,
        missing_ms: ms,
        newest_offset,
        lag: 0,
    };
    let held_by = vec![waiting(None, None), waiting(Some(1), Some(Offset(4)))];
    assert_is("WhyOpen", &WhyOpen { size: "1m".into(), start_ms: 0, end_ms: 60_000, final_: false, held_by });
    let line = ModuleLine {
        number: 0,
        at_ms: 1,
        partition: PartitionId(0),
        offset: Offset(0),
        deployment: ID,
        stage: "mask".into(),
        sha256: SHA,
        kind: LineKind::Fault,
        text: "panicked".into(),
        left_out: 0,
    };
    assert_is("ModuleLine", &line);
}
