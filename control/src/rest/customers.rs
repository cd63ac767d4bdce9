//! `/v1/customers`: the companies that buy.

use imp_core::customer::{Customer, CustomerSpec};
use imp_core::role::Kind;
use imp_core::scope::TenantScope;
use imp_core::{CustomerId, Meta};
use imp_store::customer::{self as table, CustomerFilter};

use crate::flows::Write;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Customer, customer, CustomerId, CustomerFilter);

impl Entity for Customer {
    type Spec = CustomerSpec;
    type View = Self;

    const KIND: Kind = Kind::Customer;
    const PATH: &'static str = "customers";
    const NOUN: &'static str = "customer";
    const FILTERS: &'static [&'static str] = &["tenant_id", "name"];

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

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let (tenant_id, scope) = call.owner(body.take_tenant()?).await?;
        let spec: CustomerSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        let customer = Self { id: CustomerId::new(), tenant_id, spec, meta: Meta::new(write.now) };
        table::insert(&mut write.tx, &customer).await?;
        write.finish::<Self>("create", customer.id).await?;
        Ok(customer.into())
    }

    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: CustomerSpec,
    ) -> Result<Self, Problem> {
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
    crud::mount::<Customer>(routes);
}
