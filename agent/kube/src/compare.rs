//! What of an object is no longer as we applied it, and who has changed it.

use serde_json::Value;

use crate::cluster::FIELD_MANAGER;

/// A field that somebody else has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// A JSON pointer.
    pub(crate) field: String,
    /// The field manager that wrote last, if it is not us.
    pub(crate) by: Option<String>,
}

/// The first field of ours that differs. `applied` is the object as the API server had it after our
/// apply, with its defaults. What others add to an object is theirs; lists are ours as a whole, but
/// for those that several managers share.
pub(crate) fn difference(applied: &Value, live: &Value) -> Option<Difference> {
    let Value::Object(fields) = applied else { return None };
    let ours = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
    let of_fields = ours.flat_map(|(name, value)| {
        differs(&format!("/{name}"), value, live.get(name.as_str()).unwrap_or(&Value::Null))
    });
    let labels = "/metadata/labels";
    let of_labels = differs(
        labels,
        applied.pointer(labels).unwrap_or(&Value::Null),
        live.pointer(labels).unwrap_or(&Value::Null),
    );
    let field = of_fields.chain(of_labels).next()?;
    Some(Difference { field, by: last_manager(live) })
}

/// Lists of which each manager owns elements, by their names.
const SHARED: [&str; 1] = ["/spec/listeners"];

fn differs(at: &str, ours: &Value, live: &Value) -> Option<String> {
    match (ours, live) {
        (Value::Object(ours), Value::Object(live)) => ours.iter().find_map(|(name, ours)| {
            differs(&format!("{at}/{name}"), ours, live.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(ours), Value::Array(live)) if SHARED.contains(&at) => {
            ours.iter().find_map(|ours| {
                let name = ours.get("name")?;
                let live = live.iter().find(|live| live.get("name") == Some(name));
                differs(at, ours, live.unwrap_or(&Value::Null))
            })
        }
        _ if ours == live => None,
        _ => Some(at.to_owned()),
    }
}

/// Who wrote last, apart from us and from writers of statuses.
fn last_manager(live: &Value) -> Option<String> {
    let managers = live.pointer("/metadata/managedFields")?.as_array()?;
    let text = |manager: &Value, field: &str| Some(manager.get(field)?.as_str()?.to_owned());
    let others = managers.iter().filter(|manager| {
        manager.get("subresource").is_none()
            && text(manager, "manager").as_deref() != Some(FIELD_MANAGER)
    });
    let last = others.max_by_key(|manager| text(manager, "time"))?;
    text(last, "manager")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(rules: Value) -> Value {
        json!({ "kind": "HTTPRoute", "spec": { "hostnames": ["a"], "rules": rules } })
    }

    #[test]
    fn what_others_change_or_take_away_is_found_and_what_they_add_is_theirs() {
        let applied = route(json!([{ "name": "r", "matches": [] }]));
        assert_eq!(difference(&applied, &applied), None);
        let mut added = applied.clone();
        added["spec"]["useDefaultGateways"] = json!("All");
        added["metadata"] = json!({ "annotations": { "theirs": "1" } });
        added["status"] = json!({ "parents": [] });
        assert_eq!(difference(&applied, &added), None);
        let mut changed = applied.clone();
        changed["spec"]["hostnames"] = json!(["b"]);
        changed["metadata"] = json!({ "managedFields": [
            { "manager": "imp-gateway", "time": "2026-01-03T00:00:00Z" },
            { "manager": "kubectl-edit", "time": "2026-01-02T00:00:00Z" },
            { "manager": "controller", "time": "2026-01-04T00:00:00Z", "subresource": "status" },
        ]});
        let found = difference(&applied, &changed).unwrap();
        assert_eq!(
            (found.field.as_str(), found.by.as_deref()),
            ("/spec/hostnames", Some("kubectl-edit"))
        );
        // A rule that somebody adds would take calls; so would a filter inside of one.
        let more = route(json!([{ "name": "r", "matches": [] }, { "name": "theirs" }]));
        assert_eq!(difference(&applied, &more).unwrap().field, "/spec/rules");
        let filtered = route(json!([{ "name": "r", "matches": [], "filters": [1] }]));
        assert_eq!(difference(&applied, &filtered).unwrap().field, "/spec/rules");
        assert_eq!(difference(&applied, &json!({})).unwrap().field, "/kind");
    }

    #[test]
    fn listeners_of_others_on_our_gateway_are_theirs() {
        let with = |listeners: Value| json!({ "spec": { "listeners": listeners } });
        let ours = with(json!([{ "name": "http", "port": 80 }]));
        let both = with(json!([{ "name": "theirs", "port": 81 }, { "name": "http", "port": 80 }]));
        assert_eq!(difference(&ours, &both), None);
        let moved = with(json!([{ "name": "http", "port": 82 }]));
        assert!(difference(&ours, &moved).is_some());
    }
}
