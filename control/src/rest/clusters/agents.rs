//! `/v1/clusters/{id}/agents`: the agents of a cluster. DELETE revokes permanently.

use imp_core::cluster::{Agent, Cluster};
use imp_core::role::{Action, Kind};
use imp_store::Record as _;
use imp_store::agent::{self as table, AgentFilter};

use crate::flows::agent as flow;
use crate::problem::Problem;
use crate::rest::call::Call;
use crate::rest::crud::locate;
use crate::rest::param::PAGE;
use crate::rest::reply::Reply;
use crate::rest::routes::{Op, Routes};

/// How many are read at once for a list.
const PORTION: i64 = 64;
const PATH: &str = "/v1/clusters/{id}/agents";
const NOUN: &str = "agent";

async fn list(call: Call) -> Result<Reply, Problem> {
    let (scope, cluster) = locate::<Cluster>(&call).await?;
    let page = call.query.clone().page(&format!("agents {cluster}"))?;
    let of_it = AgentFilter { cluster_id: Some(cluster) };
    let (mut sheet, now) = (page.sheet(), call.now());
    while let Some(portion) = sheet.to_fetch(PORTION) {
        let items = Agent::list(&call.state.store, &scope, &of_it, portion).await?;
        let items: Vec<_> = items.into_iter().map(|agent| table::refreshed(agent, now)).collect();
        sheet.add(portion, items.iter().map(|agent| (agent.id.into(), agent)))?;
    }
    Ok(sheet.reply())
}

/// Has no entity tag, because heartbeats change the version all the time.
async fn get(call: Call) -> Result<Reply, Problem> {
    let agent = find(&call).await?;
    Reply::ok(&table::refreshed(agent, call.now()))
}

async fn revoke(call: Call) -> Result<Reply, Problem> {
    let agent = find(&call).await?;
    flow::revoke(&call.operation, agent.id).await?;
    Ok(Reply::none())
}

/// The agent that the path names, if it belongs to the cluster that the path names.
async fn find(call: &Call) -> Result<Agent, Problem> {
    let (scope, cluster) = locate::<Cluster>(call).await?;
    let id = call.path_id("agent_id", NOUN)?;
    let agent = Agent::get(&call.state.store, &scope, id).await?;
    agent.filter(|agent| agent.cluster_id == cluster).ok_or_else(|| Problem::not_found(NOUN))
}

pub fn mount(routes: &mut Routes) {
    let view = routes.document.schema::<Agent>();
    let page = routes.document.list("Agent", &view);
    let member = format!("{PATH}/{{agent_id}}");
    let op = Op::get("agents.list", PATH, "List: agents of a cluster");
    routes.add(op.needs(Kind::Agent, Action::Read).query(&PAGE).gives(200, page), list);
    let op = Op::get("agents.get", &*member, "Get: agent");
    routes.add(op.needs(Kind::Agent, Action::Read).gives(200, view), get);
    let op = Op::delete("agents.revoke", &*member, "Revoke: agent");
    routes.add(op.needs(Kind::Agent, Action::Write), revoke);
}
