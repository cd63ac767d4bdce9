//! `/v1/consumers`: an app under a subscription.

use imp_core::client_app::ClientApp;
use imp_core::consumer::{Consumer, ConsumerSpec};
use imp_core::role::Kind;
use imp_core::subscription::Subscription;
use imp_core::{ConsumerId, Meta};
use imp_store::consumer::{self as table, ConsumerFilter};

use crate::flows::Write;
use crate::flows::subscription::refuse_ended;
use crate::problem::Problem;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Consumer, consumer, ConsumerId, ConsumerFilter);

impl Entity for Consumer {
    type Spec = ConsumerSpec;
    type View = Self;

    const KIND: Kind = Kind::Consumer;
    const PATH: &'static str = "consumers";
    const NOUN: &'static str = "consumer";
    const IMMUTABLE: &'static [&'static str] = &["subscription_id", "client_app_id"];
    const FILTERS: &'static [&'static str] =
        &["tenant_id", "customer_id", "subscription_id", "client_app_id"];

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

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec: ConsumerSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        let subscription: Subscription =
            write.refer(spec.subscription_id, "/subscription_id").await?;
        write.within(subscription.tenant_id)?;
        let app: ClientApp = write.refer(spec.client_app_id, "/client_app_id").await?;
        if app.spec.customer_id != subscription.customer_id {
            let why = "app and subscription are of two customers";
            return Err(Problem::invalid("/client_app_id", "other_customer", why));
        }
        refuse_ended(&subscription)?;
        let consumer = Self {
            id: ConsumerId::new(),
            tenant_id: subscription.tenant_id,
            customer_id: subscription.customer_id,
            spec,
            meta: Meta::new(write.now),
        };
        table::insert(&mut write.tx, &consumer).await?;
        write.finish::<Self>("create", consumer.id).await?;
        Ok(consumer.into())
    }

    /// Both of its fields are immutable, so no change gets here.
    async fn edit(_: &mut Write<'_>, current: Self, _: ConsumerSpec) -> Result<Self, Problem> {
        Ok(current)
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
    crud::mount::<Consumer>(routes);
}
