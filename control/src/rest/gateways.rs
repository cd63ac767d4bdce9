//! `/v1/gateways`: templates of listeners.

use imp_core::gateway::{Gateway, GatewaySpec};
use imp_core::role::Kind;
use imp_core::scope::TenantScope;
use imp_core::{GatewayId, Meta};
use imp_store::gateway::{self as table, GatewayFilter};
use imp_store::outbox::Subject;
use imp_store::{listener_port, product_publish};

use crate::flows::{Write, ports, publish};
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Gateway, gateway, GatewayId, GatewayFilter);

impl Entity for Gateway {
    type Spec = GatewaySpec;
    type View = Self;

    const KIND: Kind = Kind::Gateway;
    const PATH: &'static str = "gateways";
    const NOUN: &'static str = "gateway";
    const FILTERS: &'static [&'static str] = &["tenant_id", "name"];

    fn spec(&self) -> GatewaySpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<GatewayFilter, Problem> {
        Ok(GatewayFilter { name: query.take("name")?, ..GatewayFilter::default() })
    }

    fn named(scope: &TenantScope, name: &str) -> Option<GatewayFilter> {
        scope.tenant()?;
        Some(GatewayFilter { name: Some(name.to_owned()), ..GatewayFilter::default() })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec: GatewaySpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        ports::refuse_reserved(&write, &spec)?;
        let gateway = Self { id: GatewayId::new(), tenant_id, spec, meta: Meta::new(write.now) };
        table::insert(&mut write.tx, &gateway).await?;
        write.note(Subject::Gateway(gateway.id)).await?;
        write.finish::<Self>("create", gateway.id).await?;
        Ok(gateway.into())
    }

    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: GatewaySpec,
    ) -> Result<Self, Problem> {
        let expected = current.meta.version;
        let mut next = Self { spec, ..current };
        listener_port::keep_publishes(&mut write.tx, next.id).await?;
        refuse_to_strand(write, &next).await?;
        ports::change(write, &next).await?;
        next.meta.touch(write.now);
        table::update(&mut write.tx, &next, expected).await?;
        write.note(Subject::Gateway(next.id)).await?;
        Ok(next)
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        table::delete(&mut write.tx, &write.scope, current.id).await?;
        write.note(Subject::Gateway(current.id)).await
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

/// A listener's new hostname must still admit what is published on the gateway.
async fn refuse_to_strand(write: &mut Write<'_>, gateway: &Gateway) -> Result<(), Problem> {
    for hostname in product_publish::hostnames_of_gateway(&mut write.tx, gateway.id).await? {
        if !publish::admits(gateway, &hostname) {
            let detail = format!("a publish on this gateway serves {hostname}");
            return Err(Problem::conflict("in_use", detail).at("/listeners"));
        }
    }
    Ok(())
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Gateway>(routes);
}
