//! What a controller makes of an object, from its conditions.

use serde_json::Value;

/// What is known of an object or of a set of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not all of it is in the API server yet.
    Applying,
    /// It is, and its controller has not said what it makes of it: the object in question.
    Waiting(String),
    /// The controller has accepted it.
    Accepted,
    /// The API server or the controller refuses it, in their words.
    Refused(String),
}

/// What the controller of `gateway`, a `Gateway` in the same namespace, says of an object. Nothing is said
/// of kinds without conditions.
pub(crate) fn of(object: &Value, gateway: &str) -> Standing {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    let named = || format!("{kind} {name}");
    let (list, wanted): (Vec<&Value>, &[&str]) = match kind {
        "HTTPRoute" => (conditions_of(object, "/status/parents", "parentRef", gateway), &ROUTE),
        "SecurityPolicy" | "BackendTrafficPolicy" | "ClientTrafficPolicy" | "BackendTLSPolicy" => {
            (conditions_of(object, "/status/ancestors", "ancestorRef", gateway), &POLICY)
        }
        "Gateway" | "Backend" => {
            let list = object.pointer("/status/conditions").and_then(Value::as_array);
            (list.into_iter().flatten().collect(), &POLICY)
        }
        _ => return Standing::Accepted,
    };
    let current = |condition: &&&Value| {
        condition.get("observedGeneration").and_then(Value::as_i64) >= generation
    };
    let list: Vec<&Value> = list.iter().filter(current).copied().collect();
    let of_kind = |condition: &Value, kind: &str| condition.get("type") == Some(&Value::from(kind));
    for wanted in wanted {
        let found = list.iter().find(|condition| of_kind(condition, wanted));
        let Some(found) = found else { return Standing::Waiting(named()) };
        let field = |name: &str| found.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("status") {
            "True" => {}
            // It was told of the policy before it was told of the route.
            "False" if field("reason") == "TargetNotFound" => return Standing::Waiting(named()),
            "False" => {
                let (reason, message) = (field("reason"), field("message"));
                return Standing::Refused(format!("{}: {reason}: {message}", named()));
            }
            _ => return Standing::Waiting(named()),
        }
    }
    Standing::Accepted
}

const ROUTE: [&str; 2] = ["Accepted", "ResolvedRefs"];
const POLICY: [&str; 1] = ["Accepted"];

/// The conditions that are about our gateway; of policies whose ancestors are routes or backends, all.
fn conditions_of<'a>(object: &'a Value, list: &str, refers: &str, gateway: &str) -> Vec<&'a Value> {
    let entries = object.pointer(list).and_then(Value::as_array).into_iter().flatten();
    let is_ours = |entry: &&Value| {
        let reference = entry.get(refers);
        let field = |name: &str| reference.and_then(|it| it.get(name)).and_then(Value::as_str);
        let kind = field("kind").unwrap_or("Gateway");
        kind != "Gateway" || field("name") == Some(gateway)
    };
    let conditions = |entry: &'a Value| entry.get("conditions").and_then(Value::as_array);
    entries.filter(is_ours).filter_map(conditions).flatten().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(parents: &Value) -> Value {
        json!({ "kind": "HTTPRoute", "metadata": { "name": "r", "generation": 2 },
            "status": { "parents": parents } })
    }

    fn parent(gateway: &str, generation: i64, resolved: &str) -> Value {
        let condition = |kind: &str, status: &str| {
            json!({ "type": kind, "status": status, "observedGeneration": generation,
                "reason": "BackendNotFound", "message": "service edge/nope not found." })
        };
        json!({ "parentRef": { "name": gateway }, "conditions": [
            condition("Accepted", "True"), condition("ResolvedRefs", resolved),
        ]})
    }

    #[test]
    fn a_route_is_accepted_when_our_gateway_says_so_of_this_generation() {
        let of = |parents: Value| of(&route(&parents), "ours");
        let waiting = Standing::Waiting("HTTPRoute r".to_owned());
        assert_eq!(of(json!([parent("ours", 2, "True")])), Standing::Accepted);
        assert_eq!(of(json!([])), waiting);
        assert_eq!(of(json!([parent("ours", 1, "True")])), waiting, "of the former generation");
        assert_eq!(of(json!([parent("theirs", 2, "False")])), waiting, "another gateway's word");
        let words = "HTTPRoute r: BackendNotFound: service edge/nope not found.";
        assert_eq!(of(json!([parent("ours", 2, "False")])), Standing::Refused(words.to_owned()));
        assert_eq!(of(json!([parent("ours", 2, "Unknown")])), waiting);
    }

    #[test]
    fn kinds_without_conditions_are_what_they_are() {
        assert_eq!(of(&json!({ "kind": "Secret" }), "ours"), Standing::Accepted);
        let pending = json!({ "kind": "Gateway", "metadata": { "name": "g", "generation": 1 },
            "status": { "conditions": [{ "type": "Accepted", "status": "Unknown" }] } });
        assert_eq!(of(&pending, "g"), Standing::Waiting("Gateway g".to_owned()));
    }
}
