use imp_core::product_publish::{
    AuthMode, Delivery, Environment, ProductPublishSpec, PublishStatus,
};
use imp_core::{ClusterId, GatewayId, Meta, ProductId, ProductPublishId, TenantId};

use super::*;

/// A publish at revision 3, with revision 2 acknowledged.
fn publish(status: PublishStatus) -> ProductPublish {
    let spec = ProductPublishSpec {
        product_id: ProductId::new(),
        api_services: Vec::new(),
        gateway_id: GatewayId::new(),
        cluster_id: ClusterId::new(),
        environment: Environment::Prod,
        auth_mode: AuthMode::None,
        api_key: None,
        hostnames: vec!["a.example.com".to_owned()],
        base_path: "/".to_owned(),
        delivery: Delivery::Auto,
    };
    ProductPublish {
        id: ProductPublishId::new(),
        tenant_id: TenantId::new(),
        status,
        desired_revision: 3,
        acked_revision: 2,
        nodes: NodeCounts::default(),
        last_error: None,
        conditions: Vec::new(),
        activated_at: None,
        spec,
        meta: Meta::new(imp_process::clock::now()),
    }
}

fn says(
    revision: i64,
    acked_revision: i64,
    acked: u32,
    nacked: u32,
    behind: u32,
) -> Option<Reported> {
    let nodes = NodeCounts { acked, nacked, behind };
    Some(Reported { revision, acked_revision, nodes, silent: 0, ..Reported::default() })
}

fn refuses(nacked: u32) -> Option<Reported> {
    let error = PublishError {
        code: "envoy_nack".to_owned(),
        resource: "route".to_owned(),
        envoy_message: "no such thing".to_owned(),
        hint: "try another".to_owned(),
    };
    Some(Reported { error: Some(error.into()), ..says(3, 2, 0, nacked, 0)? })
}

fn after(before: &ProductPublish, reports: &[Option<Reported>]) -> ProductPublish {
    settle(before, reports, imp_process::clock::now())
}

fn status(from: PublishStatus, reports: &[Option<Reported>]) -> PublishStatus {
    after(&publish(from), reports).status
}

use PublishStatus::{Active, Deploying, Failed, Pending, Suspended, Undeploying};

#[test]
fn active_needs_every_connected_envoy_of_every_agent() {
    for (reports, expected) in [
        (vec![], Pending),
        (vec![None], Pending),
        (vec![says(3, 2, 0, 0, 1)], Deploying),
        (vec![says(3, 2, 0, 0, 0)], Deploying),
        (vec![says(3, 3, 1, 0, 0)], Active),
        (vec![says(3, 2, 1, 0, 1)], Deploying),
        (vec![says(3, 3, 1, 0, 0), says(3, 2, 0, 0, 2)], Deploying),
        (vec![says(3, 3, 1, 0, 0), None], Deploying),
        (vec![says(3, 3, 1, 0, 0), says(2, 2, 1, 0, 0)], Deploying),
        // The second agent of a pair, without an Envoy of its own.
        (vec![says(3, 3, 1, 0, 0), says(3, 0, 0, 0, 0)], Active),
        (vec![says(3, 3, 1, 0, 0), says(3, 3, 2, 0, 0)], Active),
    ] {
        assert_eq!(status(Pending, &reports), expected, "{reports:?}");
    }
}

#[test]
fn an_acknowledged_older_revision_counts_for_nothing() {
    let before = publish(Pending);
    let settled = after(&before, &[says(2, 2, 5, 0, 0)]);
    assert_eq!((settled.status, settled.acked_revision), (Pending, 2));
    assert_eq!(settled.nodes, NodeCounts { behind: 5, ..NodeCounts::default() });
    // The agent holds 3, and its Envoys still have 2.
    assert_eq!(status(Pending, &[says(3, 2, 5, 0, 0)]), Deploying);
    // Nor does one that was never asked for.
    assert_eq!(status(Pending, &[says(9, 9, 5, 0, 0)]), Pending);
}

#[test]
fn one_refusal_fails_it_with_envoys_words_until_it_is_taken_back() {
    let failed = after(&publish(Deploying), &[says(3, 3, 4, 0, 0), refuses(1)]);
    assert_eq!(failed.status, Failed);
    assert_eq!(failed.last_error.as_ref().map(|e| e.envoy_message.as_str()), Some("no such thing"));
    assert_eq!(failed.nodes, NodeCounts { acked: 4, nacked: 1, behind: 0 });
    assert_eq!(failed.acked_revision, 2);
    // The Envoy that rejected it is gone, and so are all others.
    let gone = after(&failed, &[says(3, 2, 0, 0, 0)]);
    assert_eq!((gone.status, &gone.last_error), (Failed, &failed.last_error));
    let accepted = after(&failed, &[says(3, 3, 4, 0, 0)]);
    assert_eq!((accepted.status, accepted.last_error), (Active, None));
    let wordless = after(&publish(Deploying), &[says(3, 2, 0, 1, 0)]);
    assert_eq!(wordless.last_error.map(|e| e.code).as_deref(), Some("envoy_nack"));
}

#[test]
fn what_one_envoy_refuses_and_another_takes_is_active_and_says_who_does_not_have_it() {
    let error = refuses(1).and_then(|report| report.error);
    let partly = Some(Reported { error, ..says(3, 3, 4, 1, 0).unwrap_or_default() });
    let active = after(&publish(Deploying), &[partly]);
    assert_eq!(active.status, Active);
    assert_eq!(active.nodes, NodeCounts { acked: 4, nacked: 1, behind: 0 });
    assert_eq!(active.last_error.map(|e| e.envoy_message).as_deref(), Some("no such thing"));
    // The agent itself refused a revision, and its Envoys still serve the previous one.
    let error = refuses(0).and_then(|report| report.error);
    let error =
        error.map(|error| PublishError { code: "agent_rejected".to_owned(), ..*error }.into());
    let rejected = Some(Reported { error, ..says(3, 2, 4, 0, 0).unwrap_or_default() });
    assert_eq!(status(Deploying, &[rejected]), Failed);
}

#[test]
fn who_is_silent_holds_nothing_up() {
    let silent = |silent| Some(Reported { silent, ..says(3, 3, 1, 0, 2).unwrap_or_default() });
    assert_eq!(status(Active, &[silent(2)]), Active);
    assert_eq!(status(Deploying, &[silent(2)]), Active);
    assert_eq!(status(Deploying, &[silent(1)]), Deploying, "one of the two may still answer");
}

#[test]
fn what_an_agent_has_and_no_envoy_answers_fails_when_time_is_up_and_is_active_when_one_does() {
    let now = imp_process::clock::now();
    let quiet = |seconds: i64, report: Option<Reported>| {
        let quiet_since = Some(now - chrono::TimeDelta::seconds(seconds));
        vec![report.map(|report| Reported { quiet_since, ..report })]
    };
    let settled = |before: &ProductPublish, reports: &[_]| settle(before, reports, now);
    let waits = publish(Deploying);
    assert_eq!(settled(&waits, &quiet(9, says(3, 2, 0, 0, 2))).status, Deploying);
    let failed = settled(&waits, &quiet(10, says(3, 2, 0, 0, 2)));
    let told = failed.last_error.as_ref().map(|error| (error.code.as_str(), &error.hint[..1]));
    assert_eq!((failed.status, told), (Failed, Some(("no_answer", "2"))));
    // It stays so until it is answered, whatever else happens.
    assert_eq!(settled(&failed, &quiet(0, says(3, 2, 0, 0, 2))), failed);
    let active = settled(&failed, &quiet(0, says(3, 3, 2, 0, 0)));
    assert_eq!((active.status, active.last_error), (Active, None));
    // The agent itself no longer waits for any of them.
    let silent = says(3, 2, 0, 0, 2).map(|report| Reported { silent: 2, ..report });
    assert_eq!(settled(&waits, &quiet(0, silent)).status, Failed);

    for (why, report) in [
        ("no Envoy is connected", says(3, 2, 0, 0, 0)),
        ("one of two has it", says(3, 2, 1, 0, 1)),
        ("it was taken before, and they are on their way back", says(3, 3, 0, 0, 2)),
        ("the agent has an older one", says(2, 2, 0, 0, 2)),
    ] {
        let after = settled(&waits, &quiet(3600, report));
        assert_eq!((after.status, after.last_error), (Deploying, None), "{why}");
    }
    let suspended = settled(&publish(Suspended), &quiet(10, says(3, 2, 0, 0, 2)));
    assert_eq!(suspended.status, Suspended);
}

#[test]
fn an_agents_own_refusal_fails_it_without_any_envoy() {
    assert_eq!(status(Pending, &[refuses(0)]), Failed);
}

#[test]
fn who_leaves_takes_its_nodes_along_and_nothing_else() {
    let active = after(&publish(Deploying), &[says(3, 3, 1, 0, 0)]);
    for nobody in [vec![], vec![says(3, 3, 0, 0, 0)]] {
        let left = after(&active, &nobody);
        assert_eq!((left.status, left.nodes), (Active, NodeCounts::default()));
        assert_eq!((left.acked_revision, left.activated_at), (3, active.activated_at));
    }
    let joined = after(&active, &[says(3, 2, 1, 0, 1)]);
    assert_eq!((joined.status, joined.acked_revision), (Deploying, 3));
    let again = settle(
        &joined,
        &[says(3, 3, 2, 0, 0)],
        imp_process::clock::now() + chrono::TimeDelta::hours(1),
    );
    assert_eq!((again.status, again.activated_at), (Active, active.activated_at));
}

#[test]
fn what_is_ordered_stays_whatever_agents_say() {
    for ordered in [Suspended, Undeploying] {
        let settled = after(&publish(ordered), &[says(3, 3, 1, 0, 0)]);
        assert_eq!((settled.status, settled.activated_at), (ordered, None));
        assert_eq!((settled.acked_revision, settled.nodes.acked), (3, 1));
    }
}

#[test]
fn what_is_settled_settles_to_itself() {
    for reports in [vec![], vec![says(3, 3, 1, 0, 0)], vec![refuses(2)], vec![says(3, 2, 0, 0, 1)]]
    {
        let once = after(&publish(Pending), &reports);
        assert_eq!(after(&once, &reports), once, "{reports:?}");
    }
}

#[test]
fn the_newest_condition_of_each_type_holds_and_stays_while_nobody_speaks() {
    let now = imp_process::clock::now();
    let condition = |kind: &str, reason: &str, second: i64| PublishCondition {
        kind: kind.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        since: now + TimeDelta::seconds(second),
        object: None,
        field: None,
        by: None,
        corrected_at: None,
    };
    let with = |conditions| Some(Reported { conditions, ..says(3, 3, 1, 0, 0).unwrap() });
    let old = condition("delivery", "no_envoy", 1);
    let [new, drift] =
        [condition("delivery", "returning", 2), condition("drifted", "corrected", 0)];
    let before = publish(Active);
    let reports = [with(vec![new.clone()]), None, with(vec![drift.clone(), old])];
    let said = after(&before, &reports);
    assert_eq!(said.conditions, [new, drift]);
    assert_eq!(after(&said, &[None]).conditions, said.conditions, "it has not spoken yet");
    assert_eq!(after(&said, &[]).conditions, said.conditions);
    assert_eq!(after(&said, &[with(vec![]), None]).conditions, []);
}
