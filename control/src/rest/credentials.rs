//! `/v1/credentials`: what consumers show at the gateway.

use imp_core::CredentialId;
use imp_core::consumer::Consumer;
use imp_core::credential::{Credential, CredentialSpec};
use imp_core::role::{Action, Kind};
use imp_store::credential::{self as table, CredentialFilter};
use imp_store::outbox::Subject;

use crate::flows::{Write, credential as flow};
use crate::problem::Problem;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Credential, credential, CredentialId, CredentialFilter);

impl Entity for Credential {
    type Spec = CredentialSpec;
    type View = Self;

    const KIND: Kind = Kind::Credential;
    const PATH: &'static str = "credentials";
    const NOUN: &'static str = "credential";
    const IMMUTABLE: &'static [&'static str] = &["consumer_id", "type"];
    const FILTERS: &'static [&'static str] = &["tenant_id", "customer_id", "consumer_id", "status"];
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

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec: CredentialSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        let consumer: Consumer = write.refer(spec.consumer_id, "/consumer_id").await?;
        write.within(consumer.tenant_id)?;
        let (entity, secret) = flow::issue(&mut write, &consumer, spec).await?;
        write.finish::<Self>("create", entity.id).await?;
        Ok(Made { entity, secret: Some(secret.reveal().to_owned()) })
    }

    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: CredentialSpec,
    ) -> Result<Self, Problem> {
        flow::reschedule(write, current, spec).await
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        table::delete(&mut write.tx, &write.scope, current.id).await?;
        write.note(Subject::Credential(current.id)).await
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Credential>(routes);
    act!(routes, Credential, Action::Revoke, "revoke", flow::revoke);
}
