//! `/v1/customers`: the companies that buy.

use imp_core::customer::{Customer, CustomerSpec};
use imp_core::scope::TenantScope;
use imp_store::customer::CustomerFilter;

use crate::flows::{Created, customer as flow};
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Customer {
    type Spec = CustomerSpec;
    type View = Self;

    const FILTERS: &'static [Param] = &[TENANT, NAME];

    fn spec(&self) -> CustomerSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<CustomerFilter, Problem> {
        Ok(CustomerFilter { name: query.take("name")? })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<CustomerFilter> {
        scope.tenant()?;
        Some(CustomerFilter { name: Some(name.to_owned()) })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, tenant_id, spec).await?.into())
    }

    fn with(self, spec: CustomerSpec) -> Option<Self> {
        Some(Self { spec, ..self })
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Customer>(routes);
}
