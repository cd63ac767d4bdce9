//! `/v1/consumers`: an app under a subscription.

use imp_core::consumer::{Consumer, ConsumerSpec};
use imp_core::{ClientAppId, CustomerId, SubscriptionId};
use imp_store::consumer::ConsumerFilter;

use crate::flows::{Created, consumer as flow};
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Consumer {
    type Spec = ConsumerSpec;
    type View = Self;

    /// No field can change.
    const IMMUTABLE: &'static [&'static str] = &["subscription_id", "client_app_id"];
    const FILTERS: &'static [Param] = &[
        TENANT,
        Param::of::<CustomerId>("customer_id"),
        Param::of::<SubscriptionId>("subscription_id"),
        Param::of::<ClientAppId>("client_app_id"),
    ];

    fn spec(&self) -> ConsumerSpec {
        self.spec
    }

    fn filter(query: &mut Query) -> Result<ConsumerFilter, Problem> {
        Ok(ConsumerFilter {
            customer_id: query.take("customer_id")?,
            subscription_id: query.take("subscription_id")?,
            client_app_id: query.take("client_app_id")?,
        })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, spec).await?.into())
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Consumer>(routes);
}
