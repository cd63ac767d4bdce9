//! Table `gateways`; listeners inside, as JSON.

use imp_core::gateway::{Gateway, GatewayClass, GatewaySettings, GatewaySpec, Listener};
use imp_core::scope::TenantScope;
use imp_core::{Check as _, GatewayId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored, Word};
use crate::table::columns::columns;
use crate::table::{Reference, Table, object, tenant_only};

#[derive(Clone, Debug, Default)]
pub struct GatewayFilter {
    pub name: Option<String>,
    pub gateway_class: Option<GatewayClass>,
}

impl From<Row> for Gateway {
    fn from(row: Row) -> Self {
        let mut spec = GatewaySpec {
            name: row.name,
            description: row.description,
            gateway_class: row.gateway_class.0,
            listeners: row.listeners.0,
            settings: row.settings.map(|settings| settings.0).unwrap_or_default(),
        };
        // Former releases stored hostnames as callers wrote them.
        spec.canonicalise();
        Self { id: row.id.into(), tenant_id: row.tenant_id.into(), spec, meta: row.meta.into() }
    }
}

object!(Gateway, GatewayId, GatewayFilter, "gateways");

columns! {
    Gateway as it;
    fixed { id: Uuid = it.id.0, tenant_id: Uuid = it.tenant_id.0, }
    changing {
        name: String = &it.spec.name,
        description: String = &it.spec.description,
        gateway_class: Word<GatewayClass> = it.spec.gateway_class.as_str(),
        listeners: Stored<Vec<Listener>> = Json(&it.spec.listeners),
        settings: Option<Stored<GatewaySettings>> =
            (!it.spec.settings.is_default()).then_some(Json(it.spec.settings)),
    }
}

impl Table for Gateway {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
    }

    fn filter<'a>(filter: &'a GatewayFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.word("gateway_class =", filter.gateway_class);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, vec![("tenant_id", "tenants", Some(self.tenant_id.0))])
    }
}
