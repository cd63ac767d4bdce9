//! `GET /v1/usage`: how often a subscription was used, by hour.

use chrono::{DateTime, Utc};
use imp_core::product_publish::Environment;
use imp_core::role::{Action, Kind};
use imp_core::subscription::Subscription;
use imp_core::{ConsumerId, CustomerId, PlanId, ProductPublishId, SubscriptionId};
use imp_store::Record as _;
use imp_store::usage;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::entity::Stored as _;
use crate::problem::Problem;
use crate::rest::call::Call;
use crate::rest::param::{PAGE, Param};
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};

/// The calls of one consumer to one publish in one hour under one version of a plan; a change of
/// plan inside an hour makes two records. A call is metered when the gateway admits it: it uses up
/// the plan and is billed whether or not the upstream then answers, because the gateway decides
/// before it contacts the upstream. Answers of the gateway itself (401, 403, 404, 5xx) are not
/// metered.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsageRecord {
    /// The start of the hour, UTC.
    pub hour: DateTime<Utc>,
    pub product_publish_id: ProductPublishId,
    pub consumer_id: ConsumerId,
    /// The customer of the subscription. Like the next three, null when it was counted by a release
    /// that did not keep it.
    pub customer_id: Option<CustomerId>,
    /// The environment of the publish.
    pub environment: Option<Environment>,
    /// The plan that the calls were counted under.
    pub plan_id: Option<PlanId>,
    /// The version of the plan's terms.
    pub plan_version: Option<i64>,
    /// Calls admitted and sent to the upstream, whatever it answered.
    pub allowed: u64,
    /// Calls refused by a limit.
    pub limited: u64,
}

impl From<usage::Total> for UsageRecord {
    fn from(total: usage::Total) -> Self {
        Self {
            hour: total.hour,
            product_publish_id: total.product_publish_id,
            consumer_id: total.consumer_id,
            customer_id: total.terms.customer_id,
            environment: total.terms.environment,
            plan_id: total.terms.plan_id,
            plan_version: total.terms.plan_version,
            allowed: total.allowed,
            limited: total.limited,
        }
    }
}

/// How many are read at once.
const PORTION: i64 = 200;

async fn list(call: Call) -> Result<Reply, Problem> {
    let mut query = call.query.clone();
    let Some(id) = query.take::<SubscriptionId>("subscription_id")? else {
        let detail = "say whose: ?subscription_id=...";
        return Err(Problem::unreadable("required_parameter", detail));
    };
    let subscription = Subscription::get(&call.state.store, &call.operation.scope, id).await?;
    subscription.ok_or_else(|| Problem::not_found(Subscription::NOUN))?;
    let mut sheet = query.page(&format!("usage {id}"))?.sheet();
    while let Some(portion) = sheet.to_fetch(PORTION) {
        let skip = portion.after.map_or(0, |place| i64::try_from(place.as_u128()).unwrap_or(0));
        let totals = usage::totals(&call.state.store, id, skip, portion.limit).await?;
        let records: Vec<UsageRecord> = totals.into_iter().map(UsageRecord::from).collect();
        // The index of the record after this one: page tokens hold ids.
        let places = (skip + 1..).map(|place| Uuid::from_u128(u128::from(place.unsigned_abs())));
        sheet.add(portion, places.zip(&records))?;
    }
    Ok(sheet.reply())
}

pub fn mount(routes: &mut Routes) {
    let record = routes.document.schema::<UsageRecord>();
    let page = routes.document.list("UsageRecord", &record);
    let op = Op::get("usage.list", "/v1/usage", "List: calls by hour");
    let whose = Param::of::<SubscriptionId>("subscription_id").required();
    let op = op.needs(Kind::Subscription, Action::Read).query(&[whose]).query(&PAGE);
    routes.add(op.gives(200, page), list);
}
