//! Table `tenants`.

use imp_core::TenantId;
use imp_core::scope::TenantScope;
use imp_core::tenant::{Tenant, TenantSpec};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::columns::columns;
use crate::table::{Table, object};

#[derive(Clone, Debug, Default)]
pub struct TenantFilter {
    pub slug: Option<String>,
    pub name: Option<String>,
}

impl From<Row> for Tenant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            spec: TenantSpec { name: row.name, slug: row.slug },
            meta: row.meta.into(),
        }
    }
}

object!(Tenant, TenantId, TenantFilter, "tenants");

columns! {
    Tenant as it;
    fixed { id: Uuid = it.id.0, slug: String = &it.spec.slug, }
    changing { name: String = &it.spec.name, }
}

impl Table for Tenant {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        conditions.id("id =", scope.tenant());
    }

    fn filter<'a>(filter: &'a TenantFilter, conditions: &mut Conditions<'a>) {
        conditions.text("slug =", filter.slug.as_deref());
        conditions.text("name =", filter.name.as_deref());
    }
}
