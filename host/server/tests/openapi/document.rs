//! The document by itself: sound, and of the routes and codes that the sources have.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::schema::{assert_valid, document, operations, resolved, walk};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Methods and paths of `routes.rs`, read as text.
fn routes() -> BTreeSet<String> {
    let source: String = include_str!("../../src/routes.rs").split_whitespace().collect();
    let mut out = BTreeSet::new();
    for route in source.split(".route(\"").skip(1) {
        let (path, handlers) = route.split_once('"').unwrap();
        let handlers = handlers.split(';').next().unwrap();
        let calls = |method: &str| {
            let call = format!("{method}(");
            let mut found = handlers.match_indices(&call).map(|(at, _)| handlers[..at].chars().next_back());
            found.any(|before| before.is_some_and(|c| !c.is_ascii_alphanumeric() && c != '_'))
        };
        let own =
            !path.starts_with("/internal/") && !handlers.contains("assets::page") && !path.starts_with("/assets/");
        let methods = METHODS.into_iter().filter(|method| own && calls(method));
        out.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    out
}

#[test]
fn each_route_is_in_the_document_and_each_of_its_paths_is_a_route() {
    let document = document();
    let told: BTreeSet<String> = operations(&document).iter().map(|operation| operation.name()).collect();
    let routes = routes();
    assert!(routes.contains("DELETE /api/smartmodules/{stage}") && routes.contains("POST /api/shadow"), "{routes:?}");
    assert_eq!(told, routes);
}

#[test]
fn each_code_of_a_refusal_is_in_the_document() {
    let source = include_str!("../../src/error.rs");
    let codes = source.split("fn code(").nth(1).unwrap().split("impl ").next().unwrap();
    let mut codes: BTreeSet<&str> = codes.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    codes.insert("append_failed");
    let document = document();
    let told = document["components"]["schemas"]["ErrorCode"]["enum"].as_array().unwrap();
    assert_eq!(told.iter().map(|code| code.as_str().unwrap()).collect::<BTreeSet<_>>(), codes);
}

#[test]
fn every_schema_is_one_and_every_reference_leads_somewhere() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let check = |schema: &Value| {
        if let Err(e) = jsonschema::draft202012::meta::validate(schema) {
            panic!("{e}: {schema}");
        }
    };
    document["components"]["schemas"].as_object().unwrap().values().for_each(check);
    walk(&document, &mut |value| {
        resolved(&document, value);
        value.get("schema").into_iter().for_each(check);
        if let (Some(required), Some(properties)) = (value["required"].as_array(), value["properties"].as_object()) {
            for name in required {
                assert!(properties.contains_key(name.as_str().unwrap()), "{name} is required and not described");
            }
        }
    });
}

#[test]
fn every_operation_says_what_it_needs_and_gives() {
    let document = document();
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut ids = BTreeSet::new();
    for operation in operations(&document) {
        let name = operation.name();
        assert!(ids.insert(operation.says["operationId"].as_str().unwrap()), "{name}: its id is another's too");
        assert!(operation.says["tags"].as_array().unwrap().iter().all(|tag| tags.contains(&tag)), "{name}");
        let in_path = operation.parameters.iter().filter(|p| p["in"] == "path" && p["required"] == true);
        let declared: BTreeSet<&str> = in_path.map(|p| p["name"].as_str().unwrap()).collect();
        let named = operation.path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(declared, named, "{name}");
        for (status, response) in operation.says["responses"].as_object().unwrap() {
            assert!(resolved(&document, response)["description"].is_string(), "{name}: {status}");
        }
        let open = operation.says["security"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(open, operation.path.starts_with("/health/"), "{name}");
    }
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert!(document["security"][0]["bearer"].is_array());
}

#[test]
fn every_example_is_one() {
    let document = document();
    let mut examples = 0;
    walk(&document["components"]["schemas"], &mut |schema| {
        for example in schema["examples"].as_array().into_iter().flatten() {
            examples += 1;
            assert_valid(&document, schema, example, "an example");
        }
    });
    walk(&document, &mut |value| {
        if let (Some(example), Some(schema)) = (value.get("example"), value.get("schema")) {
            examples += 1;
            assert_valid(&document, schema, example, "an example");
        }
    });
    assert!(examples > 30, "{examples}");
}
