//! `/v1/product-publishes`: what is served where.

mod waits;

use chrono::{DateTime, Utc};
use imp_core::check::{Check, Violations};
use imp_core::product_publish::{
    Environment, ProductPublish, ProductPublishSpec, PublishRevision, PublishStatus,
};
use imp_core::role::{Action, Kind};
use imp_core::{ClusterId, GatewayId, ProductId};
use imp_store::Record as _;
use imp_store::product_publish::{self as table, ProductPublishFilter, RevisionSummary};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::entity::Stored as _;
use crate::flows::{Created, publish as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud::{self, locate};
use crate::rest::entity::Entity;
use crate::rest::param::{PAGE, Param, TENANT};
use crate::rest::query::Query;
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};
use crate::state::State;
use waits::Waits;

/// A publish as callers see it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProductPublishView {
    #[serde(flatten)]
    pub publish: ProductPublish,
    /// Why it is not active yet, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Leaves out the message. No write leaves a publish `active`, the only status that depends on who
/// can serve it now.
impl From<ProductPublish> for ProductPublishView {
    fn from(publish: ProductPublish) -> Self {
        Self { publish, message: None }
    }
}

impl Entity for ProductPublish {
    type Spec = ProductPublishSpec;
    type View = ProductPublishView;

    const IMMUTABLE: &'static [&'static str] = &["product_id", "gateway_id", "cluster_id"];
    const REPORTED: &'static [&'static str] = &[
        "status",
        "acked_revision",
        "nodes",
        "last_error",
        "conditions",
        "activated_at",
        "message",
    ];
    const FILTERS: &'static [Param] = &[
        TENANT,
        Param::of::<ProductId>("product_id"),
        Param::of::<GatewayId>("gateway_id"),
        Param::of::<ClusterId>("cluster_id"),
        Param::of::<Environment>("environment"),
        Param::of::<PublishStatus>("status"),
    ];

    fn spec(&self) -> ProductPublishSpec {
        self.spec.clone()
    }

    fn filter(query: &mut Query) -> Result<ProductPublishFilter, Problem> {
        Ok(ProductPublishFilter {
            product_id: query.take("product_id")?,
            gateway_id: query.take("gateway_id")?,
            cluster_id: query.take("cluster_id")?,
            environment: query.take("environment")?,
            status: query.take("status")?,
            ..ProductPublishFilter::default()
        })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, spec).await?.into())
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: ProductPublishSpec,
    ) -> Result<Self, Refusal> {
        flow::edit(tx, current, spec).await
    }

    async fn remove(tx: &mut Transaction<'_>, current: Self) -> Result<(), Refusal> {
        flow::undeploy(tx, current).await
    }

    async fn views(state: &State, items: Vec<Self>) -> Result<Vec<ProductPublishView>, Problem> {
        Waits::look(state, &items)
            .await
            .map(|waits| items.into_iter().map(|publish| waits.view(publish)).collect())
    }
}

/// The revision to publish again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision's number: 1, 2, 3 ...
    #[schema(minimum = 1)]
    pub revision: i64,
}

impl From<Rollback> for i64 {
    fn from(body: Rollback) -> Self {
        body.revision
    }
}

impl Check for Rollback {
    fn check(&self, v: &mut Violations) {
        if self.revision < 1 {
            v.add("revision", "out_of_range", "at least 1");
        }
    }
}

/// One revision in a list: everything but its services, which may be megabytes.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevisionView {
    /// The revision's number: 1, 2, 3 ...
    pub revision: i64,
    /// SHA-256 of the content, hexadecimal.
    pub content_hash: String,
    /// The publish as it was requested.
    pub spec: ProductPublishSpec,
    /// When the revision was made.
    pub created_at: DateTime<Utc>,
}

impl From<RevisionSummary> for RevisionView {
    fn from(summary: RevisionSummary) -> Self {
        let RevisionSummary { revision, content_hash, spec, created_at } = summary;
        Self { revision, content_hash, spec, created_at }
    }
}

async fn revisions(call: Call) -> Result<Reply, Problem> {
    let (scope, id) = locate::<ProductPublish>(&call).await?;
    let publish = ProductPublish::get(&call.state.store, &scope, id).await?;
    publish.ok_or_else(|| Problem::not_found(ProductPublish::NOUN))?;
    let mut sheet = call.query.clone().page(&format!("revisions {id}"))?.sheet();
    while let Some(portion) = sheet.to_fetch(ProductPublish::PORTION) {
        let before = portion.after.map_or(i64::MAX, number);
        let items = table::list_revisions(&call.state.store, id, before, portion.limit).await?;
        let views: Vec<_> = items.into_iter().map(RevisionView::from).collect();
        sheet.add(portion, views.iter().map(|view| (place(view.revision), view)))?;
    }
    Ok(sheet.reply())
}

/// Page tokens hold ids, so a revision's number is encoded as one.
fn place(revision: i64) -> Uuid {
    Uuid::from_u128(u128::from(revision.unsigned_abs()))
}

fn number(place: Uuid) -> i64 {
    i64::try_from(place.as_u128()).unwrap_or(0)
}

async fn revision(call: Call) -> Result<Reply, Problem> {
    let (scope, id) = locate::<ProductPublish>(&call).await?;
    let publish = ProductPublish::get(&call.state.store, &scope, id).await?;
    publish.ok_or_else(|| Problem::not_found(ProductPublish::NOUN))?;
    let number = call.path_id("revision", "revision")?;
    let found = table::get_revision(&call.state.store, id, number).await?;
    Reply::ok(&found.ok_or_else(|| Problem::not_found("revision"))?)
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<ProductPublish>(routes);
    act!(routes, ProductPublish, Action::Write, "redeploy", flow::redeploy);
    act!(routes, ProductPublish, Action::Write, "rollback", flow::rollback, body = Rollback);
    act!(routes, ProductPublish, Action::Write, "suspend", flow::suspend, tightens);
    act!(routes, ProductPublish, Action::Write, "resume", flow::resume);
    let summary = routes.document.schema::<RevisionView>();
    let page = routes.document.list("PublishRevision", &summary);
    let path = format!("{}/revisions", crud::member::<ProductPublish>());
    let op = Op::get("product_publishes.revisions", &*path, "List: revisions of a publish");
    let op = op.needs(Kind::ProductPublish, Action::Read);
    let op = op.query(&[TENANT]).query(&PAGE);
    routes.add(op.gives(200, page), revisions);
    let whole = routes.document.schema::<PublishRevision>();
    let path = format!("{path}/{{revision}}");
    let op = Op::get("product_publishes.revision", path, "Get: revision of a publish");
    let op = op.needs(Kind::ProductPublish, Action::Read).query(&[TENANT]);
    routes.add(op.gives(200, whole), revision);
}
