//! What an `HTTPRoute` tells the agent about its calls: annotations, which Envoy Gateway makes the metadata of
//! its routes, and Envoy a part of each question.

use std::collections::HashMap;

use envoy_types::pb::google::protobuf::Struct;
use envoy_types::pb::google::protobuf::value::Kind;
use serde_json::{Value, json};

use super::object::set;
use super::split::Rule;
use crate::ir;
use crate::xds::door::context::{KEYS, ROUTE};

/// Where Envoy Gateway puts metadata.
pub const NAMESPACE: &str = "envoy-gateway";
/// Annotations with this prefix become metadata, without it.
const PREFIX: &str = "gateway.envoyproxy.io/";
const OURS: &str = "imp-gateway.";

/// Keys of the context by which the agent finds publish and rules.
const PUBLISH: &str = "publish";
const ACCESS: &str = "access";
/// Before the name of a rule that has a limit of its own: its route.
const LIMITED: &str = "route.";
/// The route that rules without limits of their own name.
const ANY_ROUTE: &str = "-";

/// The annotations of an `HTTPRoute` with these rules, of which the agent is asked.
pub(super) fn annotate(object: &mut Value, publish: &ir::Publish, rules: &[Rule]) {
    let mut said = vec![
        (PUBLISH.to_owned(), publish.id.to_string()),
        (ACCESS.to_owned(), publish.access.clone()),
    ];
    if !publish.keys.is_empty() {
        said.push((KEYS.to_owned(), publish.keys.clone()));
    }
    let limited = rules.iter().filter_map(|rule| Some((rule, rule.limited.as_ref()?)));
    said.extend(limited.map(|(rule, route)| (format!("{LIMITED}{}", rule.name), route.clone())));
    if let Some(annotations) = object.pointer_mut("/metadata/annotations") {
        said.iter().for_each(|(key, value)| {
            set(annotations, &format!("{PREFIX}{OURS}{key}"), json!(value));
        });
    }
}

/// The context of a call on a route with this metadata; empty where it is none of ours.
pub fn context(metadata: &Struct) -> HashMap<String, String> {
    let Some(Kind::ListValue(resources)) = kind(metadata, "resources") else {
        return HashMap::new();
    };
    let Some(Kind::StructValue(resource)) =
        resources.values.first().and_then(|it| it.kind.as_ref())
    else {
        return HashMap::new();
    };
    let Some(Kind::StructValue(annotations)) = kind(resource, "annotations") else {
        return HashMap::new();
    };
    let rule = text(resource, "sectionName").unwrap_or_default();
    let limited = text(annotations, &format!("{OURS}{LIMITED}{rule}"));
    let mut said = HashMap::from([(ROUTE.to_owned(), limited.unwrap_or(ANY_ROUTE).to_owned())]);
    for key in [PUBLISH, ACCESS, KEYS] {
        if let Some(value) = text(annotations, &format!("{OURS}{key}")) {
            said.insert(key.to_owned(), value.to_owned());
        }
    }
    said
}

fn kind<'a>(of: &'a Struct, field: &str) -> Option<&'a Kind> {
    of.fields.get(field)?.kind.as_ref()
}

fn text<'a>(of: &'a Struct, field: &str) -> Option<&'a str> {
    match kind(of, field)? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::google::protobuf::{ListValue, Value as Pb};

    use super::*;

    fn text(text: &str) -> Pb {
        Pb { kind: Some(Kind::StringValue(text.to_owned())) }
    }

    fn record(fields: Vec<(&str, Pb)>) -> Struct {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Struct { fields }
    }

    /// As Envoy Gateway writes it.
    fn metadata(rule: &str, annotations: &[(&str, &str)]) -> Struct {
        let annotations = record(annotations.iter().map(|(key, it)| (*key, text(it))).collect());
        let annotations = Pb { kind: Some(Kind::StructValue(annotations)) };
        let resource = record(vec![
            ("kind", text("HTTPRoute")),
            ("sectionName", text(rule)),
            ("annotations", annotations),
        ]);
        let resource = Pb { kind: Some(Kind::StructValue(resource)) };
        let list = Pb { kind: Some(Kind::ListValue(ListValue { values: vec![resource] })) };
        record(vec![("resources", list)])
    }

    #[test]
    fn a_call_is_of_its_publish_and_of_its_route_where_that_has_a_limit() {
        let ours = [
            ("imp-gateway.publish", "p"),
            ("imp-gateway.access", "a"),
            ("imp-gateway.keys", "x-key"),
            ("imp-gateway.route.r-1", "first"),
            ("other", "x"),
        ];
        let said = context(&metadata("r-1", &ours));
        let read = |key: &str| said.get(key).map(String::as_str);
        assert_eq!(
            [read("publish"), read("access"), read("keys")],
            [Some("p"), Some("a"), Some("x-key")]
        );
        assert_eq!((read("route"), said.len()), (Some("first"), 4));
        assert_eq!(context(&metadata("r-2", &ours)).get("route").map(String::as_str), Some("-"));
    }

    #[test]
    fn metadata_of_others_name_no_publish() {
        assert_eq!(context(&metadata("r", &[("publish", "p")])).get("publish"), None);
        assert!(context(&record(vec![("resources", text("p"))])).is_empty());
        assert!(context(&Struct::default()).is_empty());
    }
}
