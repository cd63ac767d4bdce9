//! What an entity brings along to get the five common operations from [`crate::rest::crud`].

use std::fmt::Display;
use std::future::Future;

use imp_core::role::{Action, Kind};
use imp_core::scope::TenantScope;
use imp_core::{Check, Meta};
use imp_store::{Page, Store, StoreError, Tx};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::flows::Write;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::query::Query;
use crate::state::State;

/// An entity as it is stored. Implemented by `stored!`, which forwards to the store's module.
pub trait Stored: Sized + Clone + Send + Sync + 'static {
    type Id: Copy + From<Uuid> + Into<Uuid> + Display + Send + Sync;
    type Filter: Default + Send + Sync;

    fn id(&self) -> Self::Id;
    fn meta(&self) -> &Meta;
    fn get(
        store: &Store,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self>, StoreError>> + Send;
    fn get_in(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self>, StoreError>> + Send;
    fn list(
        store: &Store,
        scope: &TenantScope,
        filter: &Self::Filter,
        page: Page,
    ) -> impl Future<Output = Result<Vec<Self>, StoreError>> + Send;
    fn delete(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;
}

/// A field that only `create` takes.
pub struct Extra {
    pub name: &'static str,
    pub required: bool,
    pub schema: fn() -> Value,
}

/// `tenant_id`, which operators must name and others may.
pub const OWNER: Extra = Extra { name: "tenant_id", required: false, schema: uuid_schema };

pub fn uuid_schema() -> Value {
    serde_json::json!({ "type": "string", "format": "uuid" })
}

/// A new object, with the secret that is shown this once.
pub struct Made<E> {
    pub entity: E,
    pub secret: Option<String>,
}

impl<E> From<E> for Made<E> {
    fn from(entity: E) -> Self {
        Self { entity, secret: None }
    }
}

/// An entity as REST offers it.
pub trait Entity: Stored + Serialize {
    /// What a caller writes.
    type Spec: Check + PartialEq + Serialize + DeserializeOwned + ToSchema + Send + Sync;
    /// What a caller reads.
    type View: Serialize + ToSchema + Send;

    const KIND: Kind;
    /// Under `/v1/`.
    const PATH: &'static str;
    /// In messages.
    const NOUN: &'static str;
    /// Fields of the spec that never change after creation.
    const IMMUTABLE: &'static [&'static str] = &[];
    /// Fields that move without anybody's edit. A PUT may carry what they were when it was read.
    const REPORTED: &'static [&'static str] = &[];
    /// Query parameters of the list.
    const FILTERS: &'static [&'static str] = &[];
    /// Of a list, so many are read at once.
    const PORTION: i64 = 64;
    /// What `create` takes besides the spec.
    const EXTRAS: &'static [Extra] = &[OWNER];
    /// What a caller's roles must allow to delete one.
    const DELETING: Action = Action::Write;
    /// The field of `create`'s answer that holds the secret.
    const SECRET: Option<&'static str> = None;

    fn spec(&self) -> Self::Spec;

    /// A better answer than `unknown_field` to what callers often get wrong.
    fn hint(_body: &Json) -> Result<(), Problem> {
        Ok(())
    }

    /// The list's filter; takes what it knows out of the query.
    fn filter(query: &mut Query) -> Result<Self::Filter, Problem>;

    /// The filter that finds an object by what stands in a path instead of its id.
    fn named(_scope: &TenantScope, _name: &str) -> Option<Self::Filter> {
        None
    }

    /// Takes over what a caller need not send: ids that the platform gave to parts.
    fn keep(_spec: &mut Self::Spec, _current: &Self) {}

    /// Makes one, in one transaction.
    fn create(call: &Call, body: Json) -> impl Future<Output = Result<Made<Self>, Problem>> + Send;

    /// Changes one inside the transaction; the spec is checked and differs from the current one.
    fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: Self::Spec,
    ) -> impl Future<Output = Result<Self, Problem>> + Send;

    /// Deletes one inside the transaction.
    fn remove(
        write: &mut Write<'_>,
        current: Self,
    ) -> impl Future<Output = Result<(), Problem>> + Send;

    /// As callers see them.
    fn views(
        state: &State,
        items: Vec<Self>,
    ) -> impl Future<Output = Result<Vec<Self::View>, Problem>> + Send;
}

/// Forwards [`Stored`] to the module of the store that bears the entity's name.
macro_rules! stored {
    ($entity:ty, $module:ident, $id:ty, $filter:ty) => {
        impl $crate::rest::entity::Stored for $entity {
            type Id = $id;
            type Filter = $filter;

            fn id(&self) -> Self::Id {
                self.id
            }

            fn meta(&self) -> &imp_core::Meta {
                &self.meta
            }

            async fn get(
                store: &imp_store::Store,
                scope: &imp_core::scope::TenantScope,
                id: Self::Id,
            ) -> Result<Option<Self>, imp_store::StoreError> {
                imp_store::$module::get(store, scope, id).await
            }

            async fn get_in(
                tx: &mut imp_store::Tx,
                scope: &imp_core::scope::TenantScope,
                id: Self::Id,
            ) -> Result<Option<Self>, imp_store::StoreError> {
                imp_store::$module::get_in(tx, scope, id).await
            }

            async fn list(
                store: &imp_store::Store,
                scope: &imp_core::scope::TenantScope,
                filter: &Self::Filter,
                page: imp_store::Page,
            ) -> Result<Vec<Self>, imp_store::StoreError> {
                imp_store::$module::list(store, scope, filter, page).await
            }

            async fn delete(
                tx: &mut imp_store::Tx,
                scope: &imp_core::scope::TenantScope,
                id: Self::Id,
            ) -> Result<bool, imp_store::StoreError> {
                imp_store::$module::delete(tx, scope, id).await
            }
        }
    };
}
pub(crate) use stored;
