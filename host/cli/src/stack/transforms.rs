//! The modules of connectors' `transforms`: found, tried, and put between a topic and a sink.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clickmill_connectors::file::{BadModule, Wanted};
use clickmill_connectors::reader::Chunk;
use clickmill_connectors::sink::Refused;
use clickmill_connectors::transform::{MakeTransform, Transform, TransformSpec, Transformed, TransformedRecord};
use clickmill_engine::manifest::Manifest;
use clickmill_engine::{Chain, Engine, Kind, Limits, Module, PassedRecord, StageSpec};
use clickmill_pipeline::through::{Given, Through};
use clickmill_schemas::PartitionId;

use crate::config::Config;
use crate::exit::shown;
use crate::modules::builtin;
use crate::smartmodule::module_file;

/// What makes transforms out of modules that were found before.
pub fn maker(engine: Engine, limits: Limits) -> MakeTransform {
    Arc::new(move |specs: &[TransformSpec]| {
        let stages = specs.iter().enumerate().map(|(i, spec)| {
            let module = engine.compile(&spec.wasm).map_err(|e| format!("{}: {e}", spec.uses))?;
            Ok(stage(format!("transforms[{i}] {}", spec.uses), module, spec.with.clone(), &limits))
        });
        let stages = stages.collect::<Result<Vec<_>, String>>()?;
        let chain = Chain::new(&engine, &stages).map_err(|e| e.to_string())?;
        // Nothing that these modules may be depends on the partition.
        Ok(Box::new(Modules(Through::new(chain, PartitionId(0)))))
    })
}

fn stage(
    name: String,
    module: Module,
    params: std::collections::BTreeMap<String, String>,
    limits: &Limits,
) -> StageSpec {
    StageSpec { name, module, params, limits: limits.clone(), lookback: None }
}

/// The module that a connector file asks for, tried with its parameters.
///
/// # Errors
/// [`BadModule`], which says what of the file is wrong.
pub fn find(wanted: &Wanted<'_>, config: &Config) -> Result<Arc<[u8]>, BadModule> {
    let uses = |e: anyhow::Error| BadModule::Uses(shown(&e));
    let (wasm, manifest) = read(wanted, config)?;
    let engine = super::engine(config, &config.data_dir).map_err(uses)?;
    let module = engine.compile(&wasm).map_err(|e| BadModule::Uses(e.to_string()))?;
    if module.is_stateful() || module.keeps_windows() || module.kind() == Kind::Aggregate {
        let why = "it keeps a state, and a connector that starts anew would begin with none: only filter, map and filter_map \
                   may stand here";
        return Err(BadModule::Uses(why.to_owned()));
    }
    if module.makes_several() {
        let why = "it may make several records of one (array_map), and each record is one row here: only filter, map and \
                   filter_map may stand here";
        return Err(BadModule::Uses(why.to_owned()));
    }
    if let Some(text) = manifest {
        let manifest = Manifest::parse(&text).map_err(|e| BadModule::Uses(format!("its SmartModule.toml: {e}")))?;
        if let Err(problems) = manifest.check_params(wanted.with) {
            let all = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(BadModule::With(all));
        }
    }
    let spec = stage(wanted.uses.to_owned(), module, wanted.with.clone(), &config.limits());
    Chain::new(&engine, &[spec]).map_err(|e| BadModule::With(e.to_string()))?;
    Ok(wasm.into())
}

/// The module's bytes, and its manifest where there is one.
fn read(wanted: &Wanted<'_>, config: &Config) -> Result<(Vec<u8>, Option<String>), BadModule> {
    let name = wanted.uses;
    let path: PathBuf = if Path::new(name).extension().is_some_and(|extension| extension == "wasm") {
        wanted.file.parent().unwrap_or(Path::new("")).join(name)
    } else if let Some(file) = config.stages.iter().find(|stage| stage.name == name).and_then(|s| s.module.clone()) {
        file
    } else {
        let own = builtin().map_err(|e| BadModule::Uses(shown(&e)))?;
        let Some(own) = own.iter().find(|module| module.name == name) else {
            let stages = config.stages.iter().map(|stage| stage.name.as_str()).collect::<Vec<_>>().join(", ");
            let what =
                format!("there is no module {name}: it is the path of a .wasm file, or one of the stages {stages}");
            return Err(BadModule::Uses(what));
        };
        return Ok((own.wasm.to_vec(), Some(own.manifest.to_owned())));
    };
    let wasm = module_file::read(&path).map_err(|e| BadModule::Uses(shown(&e)))?;
    let manifest = module_file::manifest_beside(&path).map_err(|e| BadModule::Uses(shown(&e)))?;
    Ok((wasm, manifest))
}

/// Modules between a topic and a sink.
struct Modules(Through);

impl Transform for Modules {
    fn apply(&mut self, chunk: &Chunk) -> Result<Transformed, String> {
        let (mut given, mut failed) = (Vec::new(), Vec::new());
        let mut unreadable = |e: &dyn std::fmt::Display| {
            let message = format!("the batch at offset {} cannot be read: {e}", chunk.base_offset);
            failed.push(Refused { offset: chunk.base_offset, rule: "unreadable".to_owned(), message });
        };
        match chunk.records() {
            Err(e) => unreadable(&e),
            Ok(records) => {
                for record in records {
                    match record {
                        Err(e) => unreadable(&e),
                        Ok((offset, record)) => given.push(Given {
                            offset,
                            timestamp_ms: chunk.base_timestamp_ms.saturating_add(record.timestamp_delta_ms),
                            key: record.key.map(<[u8]>::to_vec),
                            value: record.value.to_vec(),
                        }),
                    }
                }
            }
        }
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        self.0.run_telling(&given, &mut passed, &mut refused).map_err(|e| e.to_string())?;
        failed.extend(refused.into_iter().map(|(offset, rule, message)| Refused {
            offset,
            rule: rule.unwrap_or_else(|| "smartmodule".to_owned()),
            message,
        }));
        failed.sort_by_key(|failed| failed.offset);
        let record =
            |PassedRecord { offset, timestamp_ms, key, value }| TransformedRecord { offset, timestamp_ms, key, value };
        Ok(Transformed { records: passed.into_iter().map(record).collect(), failed })
    }
}
