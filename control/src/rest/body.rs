//! Bodies: JSON objects, parsed so that every fault has a pointer.

use http::{HeaderMap, StatusCode, header};
use imp_core::TenantId;
use imp_core::check::{Check, Violation};
use imp_core::json::{self, Misfit};
use imp_grammar::caps;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::{Path, Segment};

use crate::problem::Problem;
use crate::rest::depth;
use crate::workers::off_workers;

/// `application/json`, or a `+json` type such as merge-patch.
pub fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let sent = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = sent.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let known = ["application/json", "application/merge-patch+json"];
    if known.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let detail = "send Content-Type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

/// A JSON object, from which fields are taken before the rest becomes a spec.
#[derive(Clone, Debug, Default)]
pub struct Json(pub Map<String, Value>, usize);

impl Json {
    /// Fields from a text of this many bytes.
    pub fn new(fields: Map<String, Value>, bytes: usize) -> Self {
        Self(fields, bytes)
    }

    /// The size of the text in bytes.
    pub fn bytes(&self) -> usize {
        self.1
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        if !depth::is_within(bytes, caps::JSON_DEPTH.size()) {
            let detail =
                format!("objects and lists stand more than {} deep", caps::JSON_DEPTH.value);
            return Err(Problem::unreadable("malformed_json", detail));
        }
        let value = serde_json::from_slice(bytes)
            .map_err(|error| Problem::unreadable("malformed_json", error.to_string()))?;
        match value {
            Value::Object(fields) => Ok(Self(fields, bytes.len())),
            _ => Err(fault("", "invalid_type", "the body is a JSON object".to_owned())),
        }
    }

    /// Removes an optional field and returns it.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value, name).map(Some),
        }
    }

    /// Removes and returns the owner, which only operators need to name.
    pub fn take_tenant(&mut self) -> Result<Option<TenantId>, Problem> {
        self.take("tenant_id")
    }

    /// Removes and returns a required field.
    pub fn require<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Problem> {
        let missing =
            || Problem::invalid(&format!("/{name}"), "required", "this field is required");
        self.take(name)?.ok_or_else(missing)
    }

    /// Parses the remaining fields as a `T`.
    pub fn into<T: DeserializeOwned>(self) -> Result<T, Problem> {
        read(Value::Object(self.0), "")
    }

    /// Parses the remaining fields as a spec, checks it and normalises it.
    pub fn into_spec<T: DeserializeOwned + Check>(self) -> Result<T, Problem> {
        self.into_spec_keeping(|_| {})
    }

    /// Like [`Self::into_spec`]; `keep` fills in omitted values before the check.
    pub fn into_spec_keeping<T: DeserializeOwned + Check>(
        self,
        keep: impl FnOnce(&mut T),
    ) -> Result<T, Problem> {
        off_workers(self.bytes(), || {
            let mut spec: T = self.into()?;
            keep(&mut spec);
            spec.checked()?;
            spec.canonicalise();
            Ok(spec)
        })
    }
}

fn read<T: DeserializeOwned>(value: Value, at: &str) -> Result<T, Problem> {
    serde_path_to_error::deserialize(json::Json::request(value)).map_err(|error| {
        let prefix = if at.is_empty() { String::new() } else { format!("/{at}") };
        let pointer = format!("{prefix}{}", pointer(error.path()));
        problem(&pointer, error.into_inner())
    })
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push_str(&format!("/{}", escape(key)));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// Escapes a name for a JSON pointer (RFC 6901, section 3).
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn problem(at: &str, misfit: Misfit) -> Problem {
    match misfit {
        Misfit::Missing(field) => {
            Problem::invalid(&format!("{at}/{field}"), "required", "this field is required")
        }
        Misfit::Unknown { field, detail } => {
            let suffix = format!("/{}", escape(&field));
            // The path already ends with the field if its name was read as a key.
            let pointer =
                if at.ends_with(&suffix) { at.to_owned() } else { format!("{at}{suffix}") };
            fault(&pointer, "unknown_field", detail)
        }
        Misfit::Type(detail) => fault(at, "invalid_type", detail),
        Misfit::Value(detail) => fault(at, "invalid_value", detail),
    }
}

/// 400: a body of the wrong shape.
pub fn fault(pointer: &str, code: &'static str, detail: String) -> Problem {
    let mut problem = Problem::unreadable(code, detail.clone());
    problem.errors = vec![Violation { pointer: pointer.to_owned(), code, detail }];
    problem
}

#[cfg(test)]
mod tests {
    use imp_core::api_service::ApiServiceSpec;
    use imp_core::plan::PlanSpec;

    use super::*;

    fn refusal<T: DeserializeOwned + Check>(json: &str) -> (u16, &'static str, String) {
        let problem = Json::parse(json.as_bytes())
            .and_then(|json| json.into_spec::<T>())
            .err()
            .expect("a refusal");
        let first = problem.errors.first().cloned();
        let pointer = first.as_ref().map(|e| e.pointer.clone()).unwrap_or_default();
        (problem.status.as_u16(), first.map_or(problem.code, |e| e.code), pointer)
    }

    #[test]
    fn every_fault_has_its_pointer() {
        let service = refusal::<ApiServiceSpec>;
        let plan = refusal::<PlanSpec>;
        let at = |pointer: &str| pointer.to_owned();
        assert_eq!(service("{"), (400, "malformed_json", at("")));
        assert_eq!(service("[]"), (400, "invalid_type", at("")));
        assert_eq!(service("{}"), (422, "required", at("/name")));
        assert_eq!(service(r#"{"name":1}"#), (400, "invalid_type", at("/name")));
        assert_eq!(service(r#"{"name":"a","x/y":1}"#), (400, "unknown_field", at("/x~1y")));
        assert_eq!(
            service(r#"{"name":"a","routes":[{"name":"r","path":{"exact":"/"},"nope":1}]}"#),
            (400, "unknown_field", at("/routes/0/nope"))
        );
        assert_eq!(
            service(r#"{"name":"a","backends":[{"name":"b","endpoints":[{"host":"h"}]}]}"#),
            (422, "required", at("/backends/0/endpoints/0/port"))
        );
        assert_eq!(
            plan(r#"{"name":"a","quota":{"requests":-1,"per":"day"}}"#),
            (400, "invalid_value", at("/quota/requests"))
        );
        assert_eq!(
            plan(r#"{"name":"a","quota":{"requests":1,"per":"decade"}}"#),
            (400, "invalid_value", at("/quota/per"))
        );
        let policy = |policy: &str| service(&format!(r#"{{"name":"a","policies":[{policy}]}}"#));
        let limit = |fields: &str| {
            policy(&format!(r#"{{"config":{{{fields}}},"name":"l","type":"rate_limit"}}"#))
        };
        assert_eq!(
            limit(r#""requests":1,"per":"hour","burst":1"#),
            (400, "unknown_field", at("/policies/0/config/burst"))
        );
        assert_eq!(limit(r#""per":"hour""#), (422, "required", at("/policies/0/config/requests")));
        assert_eq!(
            limit(r#""requests":"1","per":"hour""#),
            (400, "invalid_type", at("/policies/0/config/requests"))
        );
        assert_eq!(policy(r#"{"name":"l"}"#), (422, "required", at("/policies/0/type")));
        let unknown = r#"{"name":"l","type":"teleport","config":{}}"#;
        assert_eq!(policy(unknown), (400, "invalid_value", at("/policies/0/config")));
        let route =
            |path: &str| service(&format!(r#"{{"name":"a","routes":[{{"path":{path}}}]}}"#));
        assert_eq!(route(r#"{"exact":"/","prefix":"/"}"#).0, 400);
        assert_eq!(route(r#"{"glob":"/"}"#).0, 400);
        assert_eq!(route(r#"7"#), (400, "invalid_type", at("/routes/0/path")));
    }
}
