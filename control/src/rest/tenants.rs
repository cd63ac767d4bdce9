//! `/v1/tenants`: the system-admin's.

use imp_core::scope::TenantScope;
use imp_core::tenant::{Tenant, TenantSpec};
use imp_store::tenant::TenantFilter;

use crate::flows::{Created, tenant as flow};
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra};
use crate::rest::param::Param;
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Tenant {
    type Spec = TenantSpec;
    type View = Self;

    const IMMUTABLE: &'static [&'static str] = &["slug"];
    const FILTERS: &'static [Param] = &[Param::text("slug")];
    const EXTRAS: &'static [Extra] = &[];

    fn spec(&self) -> TenantSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<TenantFilter, Problem> {
        Ok(TenantFilter { slug: query.take("slug")?, ..TenantFilter::default() })
    }

    fn named(_: &TenantScope, slug: &str) -> Option<TenantFilter> {
        Some(TenantFilter { slug: Some(slug.to_owned()), ..TenantFilter::default() })
    }

    async fn create(call: &Call, body: Json) -> Result<Created<Self>, Problem> {
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, call.operation.scope, spec).await?.into())
    }

    fn with(self, spec: TenantSpec) -> Option<Self> {
        Some(Self { spec, ..self })
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Tenant>(routes);
}
