//! What the agents of a cluster support, and what a publish or a subscription needs of them.

use imp_core::cluster::{AgentStatus, Capabilities};
use imp_core::gateway::Gateway;
use imp_core::plan::PlanSpec;
use imp_core::product_publish::{Environment, FrozenApiService, ProductPublishSpec};
use imp_core::{ClusterId, ProductId, Violation};
use imp_grammar::hosts::is_wildcard;
use imp_grammar::{caps, features};
use imp_store::agent::{self, Able};

use crate::flows::{classes, share};
use crate::operation::Transaction;
use crate::refusal::Refusal;

const CODE: &str = "unsupported_by_agents";

/// A feature that agents must support, and the field of the body that asks for it.
struct Need<'a> {
    pointer: String,
    what: String,
    word: &'a str,
    among: fn(&Capabilities) -> &Vec<String>,
}

/// Refuses features that a connected agent of the cluster does not support; otherwise the publish
/// would be accepted here and refused by the agent. `agents` are the connected ones. `at` is the pointer to what the body has in
/// place of a spec.
pub(super) fn refuse_unsupported(
    spec: &ProductPublishSpec,
    gateway: &Gateway,
    services: &[FrozenApiService],
    agents: &[Able],
    at: Option<&str>,
) -> Result<(), Refusal> {
    refuse(needs(spec, gateway, services), agents, at)
}

/// The same check for a gateway that changes where it has publishes.
pub(super) async fn refuse_unsupported_settings(
    tx: &mut Transaction<'_>,
    cluster: ClusterId,
    gateway: &Gateway,
) -> Result<(), Refusal> {
    let since = tx.now - AgentStatus::STALE_AFTER;
    let agents = agent::able_since(tx, cluster, since).await?;
    refuse(settings(gateway, |setting| format!("/settings/{setting}")), &agents, None)
}

/// Refuses what would bring terms to agents that would count them in other windows.
pub(super) fn refuse_terms(terms: &[PlanSpec], agents: &[Able], at: &str) -> Result<(), Refusal> {
    let mut needs: Vec<Need<'_>> = Vec::new();
    for terms in terms {
        for word in terms.features() {
            if needs.iter().all(|need| need.word != word) {
                needs.push(Need {
                    pointer: at.to_owned(),
                    what: format!("plan '{}'", terms.name),
                    word,
                    among: |known| &known.features,
                });
            }
        }
    }
    refuse(needs, agents, None)
}

/// The same check for a subscription to these terms, wherever the product is published.
pub(super) async fn refuse_unsupported_terms(
    tx: &mut Transaction<'_>,
    terms: &PlanSpec,
    (product, environment): (ProductId, Environment),
    at: &str,
) -> Result<(), Refusal> {
    if terms.features().is_empty() {
        return Ok(());
    }
    let since = tx.now - AgentStatus::STALE_AFTER;
    let agents = agent::able_of_product(tx, product, environment, since).await?;
    refuse_terms(std::slice::from_ref(terms), &agents, at)
}

fn refuse(needs: Vec<Need<'_>>, agents: &[Able], at: Option<&str>) -> Result<(), Refusal> {
    let mut lacking = Vec::new();
    for need in needs {
        let knows =
            |agent: &Able| (need.among)(&agent.capabilities).iter().any(|it| it == need.word);
        let Some(Able { id, agent_version, .. }) = agents.iter().find(|agent| !knows(agent)) else {
            continue;
        };
        let Need { pointer, what, word, .. } = need;
        let detail = format!(
            "{what} needs '{word}', which agent {id} of the cluster, version {agent_version}, doesn't know"
        );
        let pointer = at.map_or(pointer, str::to_owned);
        lacking.push(Violation { pointer, code: CODE, detail });
    }
    if lacking.is_empty() {
        return Ok(());
    }
    lacking.truncate(caps::FAULTS_TOLD.size());
    Err(Refusal::Unsupported { code: CODE, lacking })
}

/// The settings that a gateway needs. An agent that does not know a setting would ignore it.
fn settings(gateway: &Gateway, pointer: impl Fn(&str) -> String) -> Vec<Need<'static>> {
    let need = |word: &'static str| Need {
        pointer: pointer(word),
        what: format!("gateway '{}'", gateway.spec.name),
        word,
        among: |known| &known.gateway_settings,
    };
    gateway.spec.settings.changed().map(need).collect()
}

/// What a publish needs.
fn needs<'a>(
    spec: &ProductPublishSpec,
    gateway: &Gateway,
    services: &'a [FrozenApiService],
) -> Vec<Need<'a>> {
    let class = Need {
        pointer: "/gateway_id".to_owned(),
        what: format!("gateway '{}'", gateway.spec.name),
        word: gateway.spec.gateway_class.as_str(),
        among: |known| &known.gateway_classes,
    };
    let auth_mode = Need {
        pointer: "/auth_mode".to_owned(),
        what: "the publish".to_owned(),
        word: spec.auth_mode.as_str(),
        among: |known| &known.auth_modes,
    };
    let key_locations = spec.api_key.as_ref().map(|_| Need {
        pointer: "/api_key".to_owned(),
        what: "the publish".to_owned(),
        word: features::KEY_LOCATIONS,
        among: |known| &known.features,
    });
    let by_gateway_api = classes::by_gateway_api(spec, gateway);
    let delivery = (by_gateway_api && gateway.spec.gateway_class.has_xds()).then(|| Need {
        pointer: "/delivery".to_owned(),
        what: "the publish".to_owned(),
        word: features::GATEWAY_API,
        among: |known| &known.features,
    });
    let mut needs = vec![class, auth_mode];
    needs.extend(key_locations);
    needs.extend(delivery);
    needs.extend(settings(gateway, |_| "/gateway_id".to_owned()));
    // Gateway API finds wildcards without a module of ours.
    let wildcards = spec.hostnames.iter().enumerate();
    let wildcards = wildcards.filter(|(_, it)| is_wildcard(it) && !by_gateway_api);
    needs.extend(wildcards.map(|(index, hostname)| Need {
        pointer: format!("/hostnames/{index}"),
        what: format!("the hostname '{hostname}'"),
        word: features::WILDCARD_HOSTS,
        among: |known| &known.features,
    }));
    of_services(spec, services, &mut needs);
    needs
}

/// What services need; for each word the first place in each service, or in all services when the
/// body names none.
fn of_services<'a>(
    spec: &ProductPublishSpec,
    services: &'a [FrozenApiService],
    needs: &mut Vec<Need<'a>>,
) {
    for (index, service) in services.iter().enumerate() {
        // Services that come from the product have no place in the body.
        let pointer = match spec.api_services.is_empty() {
            true => "/api_services".to_owned(),
            false => format!("/api_services/{index}"),
        };
        let routes = service.spec.routes.iter().flat_map(|route| {
            route.features().map(move |word| (format!("route '{}'", route.name), word))
        });
        let backends = service.spec.backends.iter().flat_map(|backend| {
            backend.features().map(move |word| (format!("backend '{}'", backend.name), word))
        });
        let mut feature = |part: &str, word: &'static str| {
            if needs.iter().any(|need| need.pointer == pointer && need.word == word) {
                return;
            }
            needs.push(Need {
                pointer: pointer.clone(),
                what: format!("{part}service '{}'", service.spec.name),
                word,
                among: |known| &known.features,
            });
        };
        if share::is_large(service) {
            feature("", features::LARGE_SERVICES);
        }
        for (part, word) in routes.chain(backends) {
            feature(&format!("{part} of "), word);
        }
        for policy in &service.spec.policies {
            let word = policy.config.kind();
            if needs.iter().any(|need| need.pointer == pointer && need.word == word) {
                continue;
            }
            needs.push(Need {
                pointer: pointer.clone(),
                what: format!("policy '{}' of service '{}'", policy.name, service.spec.name),
                word,
                among: |known| &known.policy_types,
            });
        }
    }
}
