//! The query parameters of operations, each with its type.

use imp_core::TenantId;
use imp_grammar::caps;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::rest::document::Document;
use crate::rest::query::DEFAULT_PAGE;

/// A query parameter, as the document describes it. `Query::take` reads one of the same type.
#[derive(Clone, Copy)]
pub struct Param {
    pub name: &'static str,
    pub is_required: bool,
    schema: fn(&mut Document) -> Value,
}

impl Param {
    /// A parameter whose value is a `T`.
    pub const fn of<T: ToSchema>(name: &'static str) -> Self {
        Self { name, is_required: false, schema: Document::schema::<T> }
    }

    /// A parameter whose value is any text.
    pub const fn text(name: &'static str) -> Self {
        Self { name, is_required: false, schema: |_| json!({ "type": "string" }) }
    }

    /// Makes it required.
    pub const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// Its entry in the document.
    pub fn describe(&self, document: &mut Document) -> Value {
        json!({
            "name": self.name, "in": "query", "required": self.is_required,
            "schema": (self.schema)(document),
        })
    }
}

/// The tenant, for operators; optional for others.
pub const TENANT: Param = Param::of::<TenantId>("tenant_id");

pub const NAME: Param = Param::text("name");

const PAGE_SIZE: Param =
    Param { name: "page_size", is_required: false, schema: |_| page_size_schema() };

/// The paging parameters of a list.
pub const PAGE: [Param; 2] = [PAGE_SIZE, Param::text("page_token")];

fn page_size_schema() -> Value {
    json!({
        "type": "integer", "minimum": 1, "maximum": caps::PAGE_ITEMS.value,
        "default": DEFAULT_PAGE,
    })
}

/// Whether an operation with these parameters answers with pages.
pub fn is_paged(params: &[Param]) -> bool {
    params.iter().any(|param| param.name == PAGE_SIZE.name)
}
