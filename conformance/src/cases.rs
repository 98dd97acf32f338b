//! The cases: which modules, with which parameters, on which input.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clickmill_engine::Lookback;

use crate::input::{Batch, Record, Values, batches};
use crate::run::Stage;

/// A case: the same in both engines.
pub struct Case {
    pub kind: &'static str,
    pub name: &'static str,
    pub stages: Vec<Stage>,
    pub before: Option<Batch>,
    pub batches: Vec<Batch>,
    /// What its outcome has to show, so that no case can pass by doing nothing.
    pub shows: Shows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shows {
    /// Records came out, and no module failed.
    Records,
    /// Records came out, and there were records at fault with a hint.
    Errors,
    /// Records came out, and there were records that trapped.
    Traps,
    /// `init` refused with a hint.
    Refusal,
    /// `init` trapped.
    InitTraps,
    /// `look_back` refused with a hint.
    LookbackError,
    /// Nothing came out, and nothing failed.
    Nothing,
}

/// Finds modules by their names.
pub struct Modules<'a> {
    pub folder: &'a Path,
    pub examples: &'a Path,
    pub for_wasi: Option<&'a Path>,
}

impl Modules<'_> {
    pub fn stage(&self, name: &str, params: &[(&str, &str)]) -> Result<Stage> {
        let file = [self.folder, self.examples].map(|folder| folder.join(format!("{name}.wasm")));
        let file = file.iter().find(|file| file.is_file()).with_context(|| format!("no module {name}.wasm"))?;
        let wasm = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let params = params.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Stage { wasm, params: params.collect::<BTreeMap<_, _>>(), lookback: None })
    }
}

/// All of them.
pub fn all(modules: &Modules<'_>) -> Result<Vec<Case>> {
    let mut cases = transforms(modules)?;
    cases.extend(inits(modules)?);
    cases.extend(lookbacks(modules)?);
    cases.extend(chains(modules)?);
    cases.extend(for_wasi(modules)?);
    Ok(cases)
}

fn case(kind: &'static str, name: &'static str, stage: Stage, batches: Vec<Batch>, shows: Shows) -> Case {
    Case { kind, name, stages: vec![stage], before: None, batches, shows }
}

fn transforms(modules: &Modules<'_>) -> Result<Vec<Case>> {
    let of = |name| modules.stage(name, &[]);
    let wanted = |wanted| modules.stage("filter-contains", &[("wanted", wanted)]);
    let (numbers, words, bytes) = (Values::Numbers, Values::Words, Values::Bytes);
    let empty = || vec![Batch::new(7, Vec::new()), Batch::new(7, vec![record("")]), Batch::new(8, Vec::new())];
    let poisoned = |seed| {
        let mut all = batches(bytes, None, seed);
        all.extend(batches(words, None, seed + 100_000));
        all
    };
    Ok(vec![
        case(
            "filter",
            "params, values that pass and that do not",
            wanted("beta")?,
            batches(words, None, 1),
            Shows::Records,
        ),
        case("filter", "everything passes, empty values too", wanted("")?, batches(words, None, 2), Shows::Records),
        case("filter", "nothing passes", wanted("no such text")?, batches(words, None, 3), Shows::Nothing),
        case("filter", "errors on records that are not UTF-8", wanted("a")?, poisoned(4), Shows::Errors),
        case("map", "keys and values of any bytes", of("map-rekey")?, batches(bytes, None, 5), Shows::Records),
        case(
            "map",
            "offset, timestamp and key as the module sees them",
            of("map-stamp")?,
            batches(bytes, None, 6),
            Shows::Records,
        ),
        case("map", "panics", of("map-panics")?, batches(words, Some("panic"), 7), Shows::Traps),
        case("map", "empty batches and empty values", of("map-rekey")?, empty(), Shows::Records),
        case(
            "map",
            "example mask-device-ids",
            modules.stage("mask-device-ids", &[("salt", "pepper")])?,
            batches(Values::Events { arrays: false }, None, 8),
            Shows::Records,
        ),
        case(
            "map",
            "example mask-device-ids, values that are not JSON",
            modules.stage("mask-device-ids", &[("salt", "")])?,
            batches(Values::Events { arrays: false }, Some("{\"device_id\": 1"), 9),
            Shows::Errors,
        ),
        case(
            "filter_map",
            "values, keys, records left out",
            of("filter-map-number")?,
            batches(numbers, None, 10),
            Shows::Records,
        ),
        case("filter_map", "errors", of("filter-map-number")?, batches(numbers, Some("12z"), 11), Shows::Errors),
        case(
            "array_map",
            "none to nine records of each",
            of("array-map-split")?,
            batches(words, None, 12),
            Shows::Records,
        ),
        case(
            "array_map",
            "errors",
            of("array-map-split")?,
            batches(words, Some("one two fail four"), 13),
            Shows::Errors,
        ),
        case("array_map", "empty batches, empty output", of("array-map-split")?, empty(), Shows::Nothing),
        case(
            "array_map",
            "example fan-out",
            of("fan-out")?,
            batches(Values::Events { arrays: true }, None, 14),
            Shows::Records,
        ),
        case(
            "array_map",
            "example fan-out, values that are not JSON",
            of("fan-out")?,
            batches(Values::Events { arrays: true }, Some("[1, 2"), 15),
            Shows::Errors,
        ),
        case(
            "aggregate",
            "the accumulator after each record",
            of("aggregate-sum")?,
            batches(numbers, None, 16),
            Shows::Records,
        ),
        case("aggregate", "errors", of("aggregate-sum")?, batches(numbers, Some("NaN"), 17), Shows::Errors),
        case("aggregate", "empty batches", of("aggregate-look-back")?, empty(), Shows::Records),
    ])
}

fn inits(modules: &Modules<'_>) -> Result<Vec<Case>> {
    let told = |what| modules.stage("init-errors", &[("do", what), ("and", "another")]);
    let some = || batches(Values::Words, None, 20);
    let long = "long ".repeat(6_000);
    Ok(vec![
        case("init", "no params", modules.stage("init-errors", &[])?, some(), Shows::Records),
        case("init", "an error", told("fail, please: ü\n")?, some(), Shows::Refusal),
        case("init", "an error with a cause", told("chain")?, some(), Shows::Refusal),
        case("init", "a long error", told(&long)?, some(), Shows::Refusal),
        case("init", "a panic", told("panic")?, some(), Shows::InitTraps),
        case(
            "init",
            "a parameter that is missing",
            modules.stage("filter-contains", &[("other", "")])?,
            some(),
            Shows::Refusal,
        ),
    ])
}

fn lookbacks(modules: &Modules<'_>) -> Result<Vec<Case>> {
    let before = |poison| {
        let records = batches(Values::Numbers, poison, 30).into_iter().flat_map(|batch| batch.records).take(500);
        Some(Batch::new(5, records.collect()))
    };
    let back = |module, last, age: Option<u64>| -> Result<Stage> {
        let lookback = Some(Lookback { last, age: age.map(Duration::from_millis) });
        Ok(Stage { lookback, ..modules.stage(module, &[])? })
    };
    let told = Stage {
        lookback: Some(Lookback { last: 9, age: Some(Duration::from_millis(1_001)) }),
        ..modules.stage("filter-look-back", &[("refuse_lookback", "")])?
    };
    let numbers = |seed| batches(Values::Numbers, None, seed);
    let with = |name, stage, before, batches, shows| Case { before, ..case("look_back", name, stage, batches, shows) };
    let poisoned = || Some(Batch::new(70, vec![record("-9"), record("2"), record("no number"), record("4")]));
    Ok(vec![
        with("the newest record", back("filter-look-back", 1, None)?, before(None), numbers(31), Shows::Records),
        with("the newest 100", back("filter-look-back", 100, None)?, before(None), numbers(32), Shows::Records),
        with("more than there are", back("filter-look-back", 10_000, None)?, before(None), numbers(33), Shows::Records),
        with("by age", back("filter-look-back", 300, Some(20_000))?, before(None), numbers(34), Shows::Records),
        with("an aggregate", back("aggregate-look-back", 50, None)?, before(None), numbers(35), Shows::Records),
        with("an error", back("filter-look-back", 3, None)?, poisoned(), numbers(36), Shows::LookbackError),
        with(
            "nothing to look back on",
            back("filter-look-back", 3, None)?,
            Some(Batch::new(0, Vec::new())),
            numbers(37),
            Shows::Records,
        ),
        with(
            "errors on records",
            back("filter-look-back", 10_000, None)?,
            Some(Batch::new(0, Vec::new())),
            batches(Values::Numbers, Some("?"), 38),
            Shows::Errors,
        ),
        with("what init is told of it", told, None, Vec::new(), Shows::Refusal),
    ])
}

fn chains(modules: &Modules<'_>) -> Result<Vec<Case>> {
    let chain = |name, stages: &[(&str, &[(&str, &str)])], values, seed, poison, shows| -> Result<Case> {
        let stages = stages.iter().map(|(name, params)| modules.stage(name, params)).collect::<Result<_>>()?;
        Ok(Case { kind: "chain", name, stages, before: None, batches: batches(values, poison, seed), shows })
    };
    Ok(vec![
        chain(
            "filter, map, map",
            &[("filter-contains", &[("wanted", "x")]), ("map-rekey", &[]), ("map-stamp", &[])],
            Values::Words,
            41,
            None,
            Shows::Records,
        )?,
        chain(
            "array_map, filter",
            &[("array-map-split", &[]), ("filter-contains", &[("wanted", "a")])],
            Values::Words,
            42,
            None,
            Shows::Records,
        )?,
        chain(
            "filter_map, aggregate",
            &[("filter-map-number", &[]), ("aggregate-sum", &[])],
            Values::Numbers,
            43,
            None,
            Shows::Records,
        )?,
        chain(
            "examples: fan-out, mask-device-ids",
            &[("fan-out", &[]), ("mask-device-ids", &[("salt", "s")])],
            Values::Events { arrays: true },
            44,
            None,
            Shows::Records,
        )?,
        chain(
            "errors of the first stage",
            &[("filter-map-number", &[]), ("map-rekey", &[])],
            Values::Numbers,
            45,
            Some("one"),
            Shows::Errors,
        )?,
    ])
}

/// What smdk makes: the examples for wasm32-wasip1.
fn for_wasi(modules: &Modules<'_>) -> Result<Vec<Case>> {
    let Some(folder) = modules.for_wasi else { return Ok(Vec::new()) };
    let modules = Modules { folder, examples: folder, ..*modules };
    let events = |arrays, poison, seed| batches(Values::Events { arrays }, poison, seed);
    let mask = |salt| modules.stage("mask-device-ids", &[("salt", salt)]);
    Ok(vec![
        case("wasip1", "example mask-device-ids", mask("pepper")?, events(false, None, 51), Shows::Records),
        case("wasip1", "example mask-device-ids, errors", mask("")?, events(false, Some("[]["), 52), Shows::Errors),
        case(
            "wasip1",
            "a parameter that is missing",
            modules.stage("mask-device-ids", &[])?,
            Vec::new(),
            Shows::Refusal,
        ),
        case("wasip1", "example fan-out", modules.stage("fan-out", &[])?, events(true, None, 53), Shows::Records),
    ])
}

fn record(value: &str) -> Record {
    Record { key: None, value: value.into(), timestamp_ms: 1_413_849_600_000 }
}
