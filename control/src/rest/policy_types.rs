//! `GET /v1/policy-types`: the policy types, with the schema of each one's `config`.

use imp_core::policy::{Enforcer, PolicyType, TYPES};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::problem::Problem;
use crate::rest::call::Call;
use crate::rest::reply::{List, Reply};
use crate::rest::routes::{Op, Routes};

/// A type of policy.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyTypeView {
    /// The value of a policy's `type`.
    #[serde(rename = "type")]
    #[schema(rename = "type", example = "rate_limit")]
    pub name: &'static str,
    /// What the policy does.
    pub summary: &'static str,
    /// Which component enforces it.
    pub enforced_by: Enforcer,
    /// What it may be attached to.
    #[schema(example = json!(["api_service", "route"]))]
    pub attaches_to: [&'static str; 2],
    /// The JSON schema of `config`, self-contained.
    #[schema(value_type = Object)]
    pub config_schema: Value,
}

impl From<&PolicyType> for PolicyTypeView {
    fn from(policy: &PolicyType) -> Self {
        let mut parts = Vec::new();
        (policy.parts)(&mut parts);
        let json = |schema| serde_json::to_value(schema).unwrap_or_default();
        let parts = parts.into_iter().map(|(name, schema)| (name, json(schema))).collect();
        Self {
            name: policy.name,
            summary: policy.summary,
            enforced_by: policy.enforced_by,
            attaches_to: ["api_service", "route"],
            config_schema: inlined(json((policy.schema)()), &parts),
        }
    }
}

/// Replaces each reference by the schema that it names.
fn inlined(schema: Value, parts: &Map<String, Value>) -> Value {
    let part_of = |fields: &Map<String, Value>| {
        let name = fields.get("$ref")?.as_str()?.rsplit('/').next()?;
        parts.get(name).cloned()
    };
    match schema {
        Value::Object(fields) => match part_of(&fields) {
            Some(part) => inlined(part, parts),
            None => {
                let inlined = |(key, value)| (key, inlined(value, parts));
                Value::Object(fields.into_iter().map(inlined).collect())
            }
        },
        Value::Array(list) => {
            Value::Array(list.into_iter().map(|value| inlined(value, parts)).collect())
        }
        other => other,
    }
}

async fn list(_call: Call) -> Result<Reply, Problem> {
    let items: Vec<PolicyTypeView> = TYPES.iter().map(Into::into).collect();
    Reply::ok(&List { items, next_page_token: None })
}

pub fn mount(routes: &mut Routes) {
    let view = routes.document.schema::<PolicyTypeView>();
    let page = routes.document.list("PolicyType", &view);
    let op = Op::get("policy_types.list", "/v1/policy-types", "List: types of policy");
    routes.add(op.gives(200, page), list);
}
