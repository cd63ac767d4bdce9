//! The OpenAPI 3.1 document, built together with the routes.

use http::Method;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::problem::ProblemDocument;
use crate::rest::routes::Op;

const SCHEMAS: &str = "#/components/schemas/";

/// The paths and schemas so far.
#[derive(Debug, Default)]
pub struct Document {
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Document {
    /// Adds a type's schema with all that it refers to, and returns a reference to it.
    pub fn schema<T: ToSchema>(&mut self) -> Value {
        let mut found = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut found);
        for (name, schema) in found {
            let schema = serde_json::to_value(schema).unwrap_or_default();
            self.schemas.entry(name).or_insert(schema);
        }
        reference(&T::name())
    }

    /// Adds a schema under a name.
    pub fn named(&mut self, name: &str, schema: Value) -> Value {
        self.schemas.insert(name.to_owned(), schema);
        reference(name)
    }

    /// Adds the schema of a page of these items.
    pub fn list(&mut self, name: &str, item: &Value) -> Value {
        let schema = json!({
            "type": "object",
            "required": ["items"],
            "properties": {
                "items": { "type": "array", "items": item },
                "next_page_token": {
                    "type": "string",
                    "description": "Give it as page_token to get the next page; absent on the last one.",
                },
            },
        });
        self.named(&format!("{name}List"), schema)
    }

    /// Adds the merge-patch schema of a spec: every field is optional, null resets it to its
    /// default.
    pub fn patch<T: ToSchema>(&mut self) -> Value {
        self.schema::<T>();
        let mut schema = self.schemas.get(T::name().as_ref()).cloned().unwrap_or_default();
        if let Some(fields) = schema.as_object_mut() {
            fields.remove("required");
        }
        self.named(&T::name().replace("Spec", "Patch"), schema)
    }

    /// Adds an operation.
    pub fn describe(&mut self, op: &Op) {
        let mut operation = json!({
            "operationId": op.id,
            "tags": [op.id.split('.').next().unwrap_or_default()],
            "summary": op.summary,
            "parameters": parameters(self, op),
            "responses": self.responses(op),
        });
        if let Some(fields) = operation.as_object_mut() {
            if let Some(schema) = &op.body {
                fields.insert("requestBody".to_owned(), body(op, schema));
            }
            if let Some((kind, action)) = op.needs {
                let permission =
                    json!({ "kind": format!("{kind:?}"), "action": format!("{action:?}") });
                fields.insert("x-imp-permission".to_owned(), permission);
            }
        }
        let item = self.paths.entry(op.path.clone()).or_insert_with(|| json!({}));
        if let Some(methods) = item.as_object_mut() {
            methods.insert(op.method.as_str().to_ascii_lowercase(), operation);
        }
    }

    fn responses(&mut self, op: &Op) -> Value {
        let mut responses = Map::new();
        let good = match &op.answer {
            Some(schema) => json!({
                "description": good_words(op.status),
                "content": { "application/json": { "schema": schema } },
            }),
            None => json!({ "description": good_words(op.status) }),
        };
        responses.insert(op.status.to_string(), good);
        if op.method == Method::GET && op.path.ends_with('}') {
            responses.insert("304".to_owned(), json!({ "description": "Not changed since" }));
        }
        let problem = self.schema::<ProblemDocument>();
        for (status, words) in bad_statuses(op) {
            let content = json!({ "application/problem+json": { "schema": problem } });
            responses
                .insert(status.to_owned(), json!({ "description": words, "content": content }));
        }
        Value::Object(responses)
    }

    /// The whole document.
    pub fn finish(mut self) -> Value {
        write_out(&mut self.schemas);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Imp-Gateway",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Define APIs, bundle them into products, publish them to gateways in many clusters, sell them.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "security": [{ "token": [] }],
            "paths": self.paths,
            "components": {
                "schemas": self.schemas,
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
        })
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{SCHEMAS}{name}") })
}

fn body(op: &Op, schema: &Value) -> Value {
    let mut content = Map::new();
    if op.method == Method::PATCH {
        content.insert("application/merge-patch+json".to_owned(), json!({ "schema": schema }));
    }
    content.insert("application/json".to_owned(), json!({ "schema": schema }));
    json!({ "required": true, "content": content })
}

fn parameters(document: &mut Document, op: &Op) -> Value {
    let mut parameters = Vec::new();
    for name in op.path.split('/').filter_map(|s| s.strip_prefix('{')?.strip_suffix('}')) {
        parameters.push(json!({
            "name": name, "in": "path", "required": true,
            "description": "The id, or the name where it is unique",
            "schema": { "type": "string" },
        }));
    }
    parameters.extend(op.query.iter().map(|param| param.describe(document)));
    let is_change = [Method::PUT, Method::PATCH, Method::DELETE].contains(&op.method);
    if is_change {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "The ETag that the change is based on",
            "schema": { "type": "string" },
        }));
    }
    Value::Array(parameters)
}

fn good_words(status: u16) -> &'static str {
    match status {
        201 => "Made; Location says where, ETag which version",
        204 => "Done",
        _ => "Here it is",
    }
}

fn bad_statuses(op: &Op) -> Vec<(&'static str, &'static str)> {
    let changes = op.method != Method::GET;
    let table = [
        (true, "400", "The request cannot be read"),
        (true, "401", "No valid token"),
        (op.needs.is_some(), "403", "Needs another role"),
        (op.path.contains('{') || op.needs.is_some(), "404", "No such object"),
        (changes, "409", "Not in this state, taken, or in use"),
        (changes, "412", "If-Match names another version"),
        (op.body.is_some(), "413", "Too large"),
        (op.body.is_some(), "415", "Not JSON"),
        (changes, "422", "Read and found wrong; errors[] says where"),
        (true, "429", "Too fast, or too much at once; Retry-After says when"),
        (true, "500", "A fault of the platform"),
        (true, "503", "The database does not answer"),
    ];
    table.into_iter().filter(|(wanted, ..)| *wanted).map(|(_, code, words)| (code, words)).collect()
}

/// A view that flattens its spec becomes `allOf`, whose parts would refuse each other's fields if
/// they refuse unknown ones. Writes each such schema as one object.
fn write_out(schemas: &mut Map<String, Value>) {
    let before = schemas.clone();
    for schema in schemas.values_mut().filter(|schema| schema.get("allOf").is_some()) {
        let parts = schema.get("allOf").and_then(Value::as_array).cloned().unwrap_or_default();
        let strict =
            parts.iter().any(|part| part.get("additionalProperties") == Some(&json!(false)));
        let (mut properties, mut required) = (Map::new(), Vec::new());
        collect(&before, schema, &mut properties, &mut required);
        let mut whole = Map::new();
        whole.insert("type".to_owned(), json!("object"));
        whole.insert("properties".to_owned(), Value::Object(properties));
        if !required.is_empty() {
            whole.insert("required".to_owned(), Value::Array(required));
        }
        if strict {
            whole.insert("additionalProperties".to_owned(), json!(false));
        }
        if let Some(words) = schema.get("description") {
            whole.insert("description".to_owned(), words.clone());
        }
        *schema = Value::Object(whole);
    }
}

/// Collects the fields of an object and of all its parts.
fn collect(
    schemas: &Map<String, Value>,
    schema: &Value,
    properties: &mut Map<String, Value>,
    required: &mut Vec<Value>,
) {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(SCHEMAS));
    if let Some(target) = name.and_then(|name| schemas.get(name)) {
        return collect(schemas, target, properties, required);
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        collect(schemas, part, properties, required);
    }
    let fields = schema.get("properties").and_then(Value::as_object);
    properties.extend(fields.cloned().unwrap_or_default());
    let names = schema.get("required").and_then(Value::as_array);
    required.extend(names.cloned().unwrap_or_default());
}
