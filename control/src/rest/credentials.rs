//! `/v1/credentials`: what consumers authenticate with at the gateway.

use imp_core::credential::{Credential, CredentialSpec, CredentialStatus};
use imp_core::role::Action;
use imp_core::{ConsumerId, CustomerId};
use imp_store::credential::CredentialFilter;

use crate::flows::{Created, credential as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Credential {
    type Spec = CredentialSpec;
    type View = Self;

    const IMMUTABLE: &'static [&'static str] = &["consumer_id", "type"];
    const FILTERS: &'static [Param] = &[
        TENANT,
        Param::of::<CustomerId>("customer_id"),
        Param::of::<ConsumerId>("consumer_id"),
        Param::of::<CredentialStatus>("status"),
    ];
    const SECRET: Option<&'static str> = Some("api_key");

    fn spec(&self) -> CredentialSpec {
        self.spec
    }

    fn filter(query: &mut Query) -> Result<CredentialFilter, Problem> {
        Ok(CredentialFilter {
            customer_id: query.take("customer_id")?,
            consumer_id: query.take("consumer_id")?,
            status: query.take("status")?,
        })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, spec).await?)
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: CredentialSpec,
    ) -> Result<Self, Refusal> {
        flow::reschedule(tx, current, spec).await
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Credential>(routes);
    act!(routes, Credential, Action::Revoke, "revoke", flow::revoke, tightens);
}
