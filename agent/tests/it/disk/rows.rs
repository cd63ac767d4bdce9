//! Tests of single rows of the last-known-good.

use imp_agent::lkg::{self, Lkg, Table};
use imp_xds::Resource;
use prost::Message as _;

use super::NOWHERE;
use crate::control::resource;
use crate::fixtures;
use crate::rig::{self, agent, config, control_with, eventually};

#[tokio::test]
async fn a_row_that_is_not_what_its_version_says_is_not_served_and_fetched_again() {
    let control = control_with(2).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    rig::ready(&first).await;
    eventually("both", || (first.fleet.statuses().len() == 2).then_some(())).await;
    first.shutdown().await;

    // Another upstream is written into the file, under the version of the former content.
    let edit = || {
        let (url, genuine) = resource(&fixtures::publish(1, 9_000));
        let edited = fixtures::publish(1, 9_999).encode_to_vec();
        let version = genuine.version().clone();
        let edited = Resource::new(genuine.name().clone(), version, edited.into());
        let (lkg, _) = Lkg::open(state.path()).unwrap();
        lkg.put(Table::Resources, lkg::key(&url, genuine.name()), lkg::row(&url, &edited));
        lkg.close();
    };
    edit();
    let alone = rig::start(config(NOWHERE, state.path())).await.unwrap();
    assert_eq!(alone.fleet.statuses().len(), 1, "the other one goes on");
    alone.shutdown().await;
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    eventually("fetched again", || (again.fleet.statuses().len() == 2).then_some(())).await;
    again.shutdown().await;
}
