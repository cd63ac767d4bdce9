//! Table `consumers`. Foreign keys ensure that subscription and app have the same customer.

use imp_core::consumer::{Consumer, ConsumerSpec};
use imp_core::scope::TenantScope;
use imp_core::{ClientAppId, ConsumerId, CustomerId, SubscriptionId};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::columns::columns;
use crate::table::{Reference, Table, object, tenant_and_customer};

#[derive(Clone, Debug, Default)]
pub struct ConsumerFilter {
    pub customer_id: Option<CustomerId>,
    pub subscription_id: Option<SubscriptionId>,
    pub client_app_id: Option<ClientAppId>,
}

impl From<Row> for Consumer {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            customer_id: row.customer_id.into(),
            spec: ConsumerSpec {
                subscription_id: row.subscription_id.into(),
                client_app_id: row.client_app_id.into(),
            },
            meta: row.meta.into(),
        }
    }
}

object!(Consumer, ConsumerId, ConsumerFilter, "consumers");

columns! {
    Consumer as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        customer_id: Uuid = it.customer_id.0,
        subscription_id: Uuid = it.spec.subscription_id.0,
        client_app_id: Uuid = it.spec.client_app_id.0,
    }
    changing {}
}

impl Table for Consumer {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a ConsumerFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.id("subscription_id =", filter.subscription_id);
        conditions.id("client_app_id =", filter.client_app_id);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        let references = vec![
            ("subscription_id", "subscriptions", Some(self.spec.subscription_id.0)),
            ("client_app_id", "client_apps", Some(self.spec.client_app_id.0)),
            ("customer_id", "customers", Some(self.customer_id.0)),
        ];
        (Some(self.tenant_id.0), references)
    }
}
