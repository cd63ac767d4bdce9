//! What an entity must define for [`crate::rest::crud`] to offer the five common operations.

use std::future::Future;

use imp_core::Check;
use imp_core::role::Action;
use imp_core::scope::TenantScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;

use crate::entity::Stored;
use crate::flows::Created;
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::param::Param;
use crate::rest::query::Query;
use crate::state::State;

/// A field that only `create` takes.
pub struct Extra {
    pub name: &'static str,
    pub required: bool,
    pub schema: fn() -> Value,
}

/// `tenant_id`, required from operators and optional for others.
pub const OWNER: Extra = Extra { name: "tenant_id", required: false, schema: uuid_schema };

pub fn uuid_schema() -> Value {
    serde_json::json!({ "type": "string", "format": "uuid" })
}

/// An entity as REST offers it.
pub trait Entity: Stored + Serialize {
    /// The writable part.
    type Spec: Check + PartialEq + Serialize + DeserializeOwned + ToSchema + Send + Sync;
    /// The representation in answers. Made from the object alone, it leaves out what needs another
    /// read.
    type View: From<Self> + Serialize + ToSchema + Send;

    /// Fields of the spec that never change after creation.
    const IMMUTABLE: &'static [&'static str] = &[];
    /// Fields that change without an edit. A PUT may carry the values that were read.
    const REPORTED: &'static [&'static str] = &[];
    /// Query parameters of the list.
    const FILTERS: &'static [Param] = &[];
    /// How many are read at once for a list.
    const PORTION: i64 = 64;
    /// Fields that `create` takes besides the spec.
    const EXTRAS: &'static [Extra] = &[OWNER];
    /// The permission needed to delete one.
    const DELETING: Action = Action::Write;
    /// The field of `create`'s answer with the secret.
    const SECRET: Option<&'static str> = None;

    fn spec(&self) -> Self::Spec;

    /// A better error than `unknown_field` for common mistakes.
    fn hint(_body: &Json) -> Result<(), Problem> {
        Ok(())
    }

    /// Builds the list's filter from the query parameters.
    fn filter(query: &mut Query) -> Result<Self::Filter, Problem>;

    /// The filter that finds an object by its name in a path instead of its id.
    fn named(_scope: &TenantScope, _name: &str) -> Option<Self::Filter> {
        None
    }

    /// Fills in values that a caller may omit: ids that the platform gave to parts.
    fn keep(_spec: &mut Self::Spec, _current: &Self) {}

    /// Reads the body and calls the flow that creates one.
    fn create(
        call: &Call,
        body: Json,
    ) -> impl Future<Output = Result<Created<Self>, Problem>> + Send;

    /// The object with another spec, if the edit changes nothing else.
    fn with(self, _spec: Self::Spec) -> Option<Self> {
        None
    }

    /// Changes one inside the transaction; the spec is checked and differs from the current one.
    fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: Self::Spec,
    ) -> impl Future<Output = Result<Self, Refusal>> + Send {
        async move {
            // An entity with only immutable fields has no edit.
            let changed = current.with(spec);
            tx.save(changed.ok_or_else(|| Refusal::internal("there is nothing to edit"))?).await
        }
    }

    /// Deletes one inside the transaction.
    fn remove(
        tx: &mut Transaction<'_>,
        current: Self,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        tx.delete::<Self>(current.id())
    }

    /// The views of these objects. Reads only if the view has more than the object.
    fn views(
        _: &State,
        items: Vec<Self>,
    ) -> impl Future<Output = Result<Vec<Self::View>, Problem>> + Send {
        std::future::ready(Ok(items.into_iter().map(Into::into).collect()))
    }
}
