//! The Kubernetes manifest against Kubernetes' own schemas, the unit against systemd, the Dockerfile against its rules.

use std::path::PathBuf;
use std::process::Command;

use crate::common::{Value, skipped};
use crate::programs::check;
use crate::stack::assert_known;
use crate::{list, text, word};

/// Schemas that know no key but Kubernetes' own.
const SCHEMAS: &str = "kubernetes-json-schema/v1.37.0-local-strict/_definitions.json";

fn manifests() -> Vec<Value> {
    let all = text("docs/deploy/kubernetes.yaml");
    all.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect()
}

fn of_kind(kind: &str) -> Value {
    manifests().into_iter().find(|manifest| manifest["kind"] == kind).unwrap()
}

/// Where PyPI's package of the schemas lies.
fn schemas() -> PathBuf {
    let python = std::env::var("CLICKMILL_RECOUNT_PYTHON")
        .expect("run the tests with `cargo xtask test`: they need Kubernetes' schemas");
    let find = "import importlib.util as u; print(u.find_spec('kubernetes_validate').submodule_search_locations[0])";
    let found = Command::new(python).args(["-c", find]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim()).join(SCHEMAS)
}

#[test]
fn the_manifest_is_what_kubernetes_takes() {
    let file = std::fs::read_to_string(schemas()).unwrap().replace("/api/_definitions.json#/", "#/");
    let mut schema: Value = serde_json::from_str(&file).unwrap();
    // Its own address would make references be looked for there.
    schema.as_object_mut().unwrap().remove("$id");
    let validator = |kind: &str| {
        let names = schema["$defs"].as_object().unwrap().keys();
        let name = names
            .filter(|name| name.ends_with(&format!(".{kind}")) && name.starts_with("io.k8s.api."))
            .collect::<Vec<_>>();
        assert_eq!(name.len(), 1, "{kind}: {name:?}");
        let mut schema = schema.clone();
        schema["$ref"] = format!("#/$defs/{}", name[0]).into();
        jsonschema::validator_for(&schema).unwrap()
    };
    let mut kinds = Vec::new();
    for manifest in manifests() {
        let kind = word(&manifest["kind"]).to_owned();
        let faults: Vec<String> =
            validator(&kind).iter_errors(&manifest).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(faults.is_empty(), "{kind}: {faults:#?}");
        kinds.push(kind);
    }
    assert_eq!(kinds, ["Namespace", "ConfigMap", "Service", "StatefulSet"]);
    let mut wrong = of_kind("StatefulSet");
    wrong["spec"]["template"]["spec"]["containers"][0]["readOnly"] = true.into();
    assert!(!validator("StatefulSet").is_valid(&wrong), "an unknown key is found");
}

#[test]
fn the_manifest_is_what_clickmill_takes() {
    let pod = &of_kind("StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_known(list(&container["env"]).iter().map(|variable| word(&variable["name"])));
    assert_eq!(of_kind("StatefulSet")["spec"]["replicas"], 1, "the log has one writer");
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = word(&container[probe]["httpGet"]["path"]);
        let route = format!(".route(\"{path}\"");
        assert!(text("host/server/src/routes.rs").contains(&route), "{probe} asks {path}, which is no route");
    }
    let port = &container["ports"][0]["containerPort"];
    assert_eq!(port, &of_kind("Service")["spec"]["ports"][0]["port"]);
    let listen = list(&container["env"]).iter().find(|v| v["name"] == "CLICKMILL_LISTEN").unwrap();
    assert_eq!(word(&listen["value"]), format!("0.0.0.0:{port}"));
    // Its configuration is one that the program reads.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clickmill.yaml");
    std::fs::write(&file, word(&of_kind("ConfigMap")["data"]["clickmill.yaml"])).unwrap();
    check(env!("CARGO_BIN_EXE_clickmill"), &["--config", file.to_str().unwrap(), "config"]).unwrap();
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = text("docs/deploy/clickmill.service");
    let variables = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    assert_known(variables.map(|(name, _)| name));
    if check("systemd-analyze", &["--version"]).is_err() {
        return skipped("systemd-analyze is not here");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clickmill.service");
    let here = unit.replace("/usr/local/bin/clickmill", env!("CARGO_BIN_EXE_clickmill"));
    std::fs::write(&file, here).unwrap();
    check("systemd-analyze", &["verify", "--man=no", file.to_str().unwrap()]).unwrap();
}

#[test]
fn the_image_is_built_in_two_stages_from_pinned_images_and_runs_as_nobody_special() {
    let file = text("Dockerfile");
    let images: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("FROM ")).collect();
    assert_eq!(images.len(), 2, "{images:?}");
    for image in images {
        let tag = image.split_whitespace().next().unwrap().rsplit_once(':').unwrap().1;
        assert!(tag.starts_with(|c: char| c.is_ascii_digit()) && tag.contains('.'), "{image} is not pinned");
    }
    let last = file.rsplit_once("FROM ").unwrap().1;
    assert!(last.contains("\nUSER 10001:10001\n") && last.contains("COPY --from=build"), "{last}");
    let variables = last.split("ENV ").nth(1).unwrap().split("\nVOLUME").next().unwrap();
    assert_known(variables.split_whitespace().filter_map(|pair| pair.split_once('=').map(|(name, _)| name)));
}
