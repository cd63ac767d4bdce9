//! Table `customers`.

use imp_core::CustomerId;
use imp_core::customer::{Customer, CustomerSpec};
use imp_core::scope::TenantScope;
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::columns::columns;
use crate::table::{Reference, Table, object, tenant_only};

#[derive(Clone, Debug, Default)]
pub struct CustomerFilter {
    pub name: Option<String>,
}

impl From<Row> for Customer {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            spec: CustomerSpec { name: row.name },
            meta: row.meta.into(),
        }
    }
}

object!(Customer, CustomerId, CustomerFilter, "customers");

columns! {
    Customer as it;
    fixed { id: Uuid = it.id.0, tenant_id: Uuid = it.tenant_id.0, }
    changing { name: String = &it.spec.name, }
}

impl Table for Customer {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
        conditions.id("id =", scope.customer());
    }

    fn filter<'a>(filter: &'a CustomerFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, vec![("tenant_id", "tenants", Some(self.tenant_id.0))])
    }
}
