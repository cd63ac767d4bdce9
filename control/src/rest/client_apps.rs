//! `/v1/client-apps`: programs of a customer's that call APIs.

use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_core::customer::Customer;
use imp_core::role::Kind;
use imp_core::{ClientAppId, Meta};
use imp_store::client_app::{self as table, ClientAppFilter};

use crate::flows::Write;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(ClientApp, client_app, ClientAppId, ClientAppFilter);

impl Entity for ClientApp {
    type Spec = ClientAppSpec;
    type View = Self;

    const KIND: Kind = Kind::ClientApp;
    const PATH: &'static str = "client-apps";
    const NOUN: &'static str = "client app";
    const IMMUTABLE: &'static [&'static str] = &["customer_id"];
    const FILTERS: &'static [&'static str] = &["tenant_id", "customer_id", "name"];

    fn spec(&self) -> ClientAppSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ClientAppFilter, Problem> {
        let (customer_id, name) = (query.take("customer_id")?, query.take("name")?);
        Ok(ClientAppFilter { customer_id, name })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec: ClientAppSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        let customer = write.refer::<Customer>(spec.customer_id, "/customer_id").await?;
        write.within(customer.tenant_id)?;
        let (id, tenant_id) = (ClientAppId::new(), customer.tenant_id);
        let app = Self { id, tenant_id, spec, meta: Meta::new(write.now) };
        table::insert(&mut write.tx, &app).await?;
        write.finish::<Self>("create", id).await?;
        Ok(app.into())
    }

    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: ClientAppSpec,
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
    crud::mount::<ClientApp>(routes);
}
