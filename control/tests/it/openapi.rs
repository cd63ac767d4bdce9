//! The OpenAPI document is valid.

use std::collections::HashSet;

use serde_json::Value;

use crate::control_plane::ControlPlane;

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
    let plane = ControlPlane::start().await;
    let served = plane.nobody().get("/openapi.json").await.ok();
    assert_eq!(served, imp_control::rest::document());
    assert_eq!(served["openapi"], "3.1.0");
}

/// Makes changes of the API visible in review. Keys are sorted, so that only changes move.
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

/// Resolves references.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|at| document.pointer(at.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// Whether a list with this query is refused because of the query.
async fn refuses(plane: &ControlPlane, path: &str, query: &str) -> bool {
    let answer = plane.admin.get(&format!("{path}?{query}")).await;
    match answer.status.as_u16() {
        400 => true,
        // The query was accepted, and there is no such object.
        200 | 404 => false,
        _ => panic!("{path}?{query}: {:#}", answer.body),
    }
}

#[tokio::test]
async fn query_parameters_are_of_the_type_that_the_document_says() {
    let plane = ControlPlane::start().await;
    let document = imp_control::rest::document();
    let id = uuid::Uuid::now_v7();
    let (mut words, mut ids, mut required) = (0, 0, 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let Some(parameters) = methods["get"]["parameters"].as_array() else { continue };
        if path.contains('{') {
            continue;
        }
        for parameter in parameters.iter().filter(|it| it["in"] == "query") {
            let (name, schema) = (&parameter["name"], resolved(&document, &parameter["schema"]));
            let (name, of) = (name.as_str().unwrap(), format!("{path} {parameter}"));
            let nonsense = format!("{name}=nonsense");
            if parameter["required"] == true {
                required += 1;
                assert!(refuses(&plane, path, "").await, "{of}");
            } else if let Some(named) = schema["enum"].as_array() {
                words += 1;
                assert!(refuses(&plane, path, &nonsense).await, "{of}");
                for word in named {
                    let query = format!("{name}={}", word.as_str().unwrap());
                    assert!(!refuses(&plane, path, &query).await, "{of}: {word}");
                }
            } else if schema["format"] == "uuid" {
                ids += 1;
                assert!(refuses(&plane, path, &nonsense).await, "{of}");
                assert!(!refuses(&plane, path, &format!("{name}={id}")).await, "{of}");
            } else if name != "page_size" && name != "page_token" {
                assert!(!refuses(&plane, path, &nonsense).await, "{of}");
            }
        }
    }
    assert!(words >= 8 && ids >= 20 && required == 1, "{words} {ids} {required}");
}

#[tokio::test]
async fn a_body_is_required_where_the_document_says_so() {
    let plane = ControlPlane::start().await;
    let document = imp_control::rest::document();
    let id = uuid::Uuid::now_v7().to_string();
    for operation in crate::doors::operations() {
        let method = operation.method.as_str().to_ascii_lowercase();
        let described = &document["paths"][&operation.path][&method];
        let answer = plane.admin.send(operation.method.clone(), &operation.at(&id), None).await;
        match described["requestBody"]["required"].as_bool() {
            Some(required) => {
                assert!(required, "{}: every body is", operation.id);
                answer.refused(415, "unsupported_media_type", "");
            }
            None => assert_ne!(answer.status.as_u16(), 415, "{}", operation.id),
        }
    }
}
