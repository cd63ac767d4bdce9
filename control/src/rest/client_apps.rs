//! `/v1/client-apps`: programs of a customer's that call APIs.

use imp_core::CustomerId;
use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_store::client_app::ClientAppFilter;

use crate::flows::{Created, client_app as flow};
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{NAME, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for ClientApp {
    type Spec = ClientAppSpec;
    type View = Self;

    const IMMUTABLE: &'static [&'static str] = &["customer_id"];
    const FILTERS: &'static [Param] = &[TENANT, Param::of::<CustomerId>("customer_id"), NAME];

    fn spec(&self) -> ClientAppSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ClientAppFilter, Problem> {
        let (customer_id, name) = (query.take("customer_id")?, query.take("name")?);
        Ok(ClientAppFilter { customer_id, name })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, spec).await?.into())
    }

    fn with(self, spec: ClientAppSpec) -> Option<Self> {
        Some(Self { spec, ..self })
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<ClientApp>(routes);
}
