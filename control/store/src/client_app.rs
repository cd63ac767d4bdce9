//! Table `client_apps`.

use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_core::scope::TenantScope;
use imp_core::{ClientAppId, CustomerId};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::columns::columns;
use crate::table::{Reference, Table, object, tenant_and_customer};

#[derive(Clone, Debug, Default)]
pub struct ClientAppFilter {
    pub customer_id: Option<CustomerId>,
    pub name: Option<String>,
}

impl From<Row> for ClientApp {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            spec: ClientAppSpec { customer_id: row.customer_id.into(), name: row.name },
            meta: row.meta.into(),
        }
    }
}

object!(ClientApp, ClientAppId, ClientAppFilter, "client_apps");

columns! {
    ClientApp as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        customer_id: Uuid = it.spec.customer_id.0,
    }
    changing { name: String = &it.spec.name, }
}

impl Table for ClientApp {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a ClientAppFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.text("name =", filter.name.as_deref());
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (Some(self.tenant_id.0), vec![("customer_id", "customers", Some(self.spec.customer_id.0))])
    }
}
