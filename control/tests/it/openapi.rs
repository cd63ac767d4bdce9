//! The OpenAPI document is sound.

use std::collections::HashSet;

use serde_json::Value;

use crate::world::World;

fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_served_document_is_the_printed_one() {
    let world = World::start().await;
    let served = world.nobody().get("/openapi.json").await.ok();
    assert_eq!(served, imp_control::rest::document());
    assert_eq!(served["openapi"], "3.1.0");
}

/// A change of the API is seen in review. Keys are sorted, so that only what changed moves.
#[test]
fn the_committed_document_is_the_printed_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let mut document = imp_control::rest::document();
    document.sort_all_objects();
    let wanted = format!("{}\n", serde_json::to_string_pretty(&document).unwrap());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).position(|(one, other)| one != other);
    assert!(
        found == wanted,
        "line {}: UPDATE_OPENAPI=1 cargo test -p imp-control openapi writes docs/openapi.json",
        differs.unwrap_or_default() + 1
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document = imp_control::rest::document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 200);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn operations_have_unique_ids_and_every_response_a_description() {
    let document = imp_control::rest::document();
    let mut ids = HashSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} twice");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].is_string(), "{method} {path} {status}");
            }
        }
    }
}

#[test]
fn no_schema_refuses_what_another_part_of_it_asks_for() {
    let document = imp_control::rest::document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema.get("allOf").is_none(), "{name} is not written out");
    }
    let service = &document["components"]["schemas"]["ApiService"]["properties"];
    for field in ["id", "tenant_id", "status", "name", "routes", "version", "created_at"] {
        assert!(service.get(field).is_some(), "{field}");
    }
    let new = &document["components"]["schemas"]["NewPlan"];
    assert!(new["required"].as_array().unwrap().contains(&"product_id".into()), "{new:#}");
    assert_eq!(new["additionalProperties"], false);
}
