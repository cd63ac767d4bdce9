//! `/v1/tenants`: the system-admin's.

use imp_core::role::Kind;
use imp_core::scope::TenantScope;
use imp_core::tenant::{Tenant, TenantSpec};
use imp_core::{Meta, TenantId};
use imp_store::tenant::{self as table, TenantFilter};

use crate::flows::Write;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Extra, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Tenant, tenant, TenantId, TenantFilter);

impl Entity for Tenant {
    type Spec = TenantSpec;
    type View = Self;

    const KIND: Kind = Kind::Tenant;
    const PATH: &'static str = "tenants";
    const NOUN: &'static str = "tenant";
    const IMMUTABLE: &'static [&'static str] = &["slug"];
    const FILTERS: &'static [&'static str] = &["slug"];
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

    async fn create(call: &Call, body: Json) -> Result<Made<Self>, Problem> {
        let spec: TenantSpec = body.into_spec()?;
        let mut write = Write::begin(call, call.scope).await?;
        let tenant = Self { id: TenantId::new(), spec, meta: Meta::new(write.now) };
        table::insert(&mut write.tx, &tenant).await?;
        write.finish::<Self>("create", tenant.id).await?;
        Ok(tenant.into())
    }

    async fn edit(write: &mut Write<'_>, current: Self, spec: TenantSpec) -> Result<Self, Problem> {
        let expected = current.meta.version;
        let mut next = Self { spec, ..current };
        next.meta.touch(write.now);
        table::update(&mut write.tx, &next, expected).await?;
        Ok(next)
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        table::delete(&mut write.tx, &write.scope, current.id).await?;
        Ok(())
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Tenant>(routes);
}
