//! Which tenant may use a hostname, and which publish serves it.

use imp_core::TenantId;
use imp_core::check::Violations;
use imp_core::gateway::Gateway;
use imp_core::hostname::{Reserved, reserved, reserved_fault};
use imp_core::product_publish::{ProductPublish, ProductPublishSpec};
use imp_grammar::hosts::{CATCH_ALL, below_wildcard, is_wildcard};
use imp_store::domain::Holder;
use imp_store::product_publish::{self as table, Claim, ClaimTime, Former};
use imp_store::{Soon, listener_port, wildcard};

use crate::flows::ports::SharedPorts;
use crate::operation::Transaction;
use crate::refusal::Refusal;

/// Requires every hostname to be at or below a domain that the tenant holds, or below a shared one.
/// `holders` are those of [`imp_store::domain::holder_above_soon`], in order.
/// The error is the same whether another tenant holds it or nobody does.
pub(super) async fn refuse_unproven(
    tx: &mut Transaction<'_>,
    tenant: TenantId,
    hostnames: &[String],
    holders: Vec<Soon<Option<Holder>>>,
) -> Result<(), Refusal> {
    let mut v = Violations::new();
    for (index, (hostname, holder)) in hostnames.iter().zip(holders).enumerate() {
        if let Err((code, detail)) = check(tx, tenant, hostname, holder).await? {
            v.within("hostnames", |v| v.add(&index.to_string(), code, detail));
        }
    }
    Ok(v.into_result()?)
}

type Fault = (&'static str, String);

async fn check(
    tx: &mut Transaction<'_>,
    tenant: TenantId,
    hostname: &str,
    holder: Soon<Option<Holder>>,
) -> Result<Result<(), Fault>, Refusal> {
    // A wildcard takes what is below this name.
    let name = below_wildcard(hostname).unwrap_or(hostname);
    let reserved = (name != CATCH_ALL).then(|| reserved(name)).flatten();
    let refused = || {
        let fault = reserved_fault();
        Err((fault.code, fault.detail))
    };
    if reserved == Some(Reserved::Always) {
        return Ok(refused());
    }
    let holder = tx.now(holder).await?;
    let shared_domains = &tx.operation.claims.shared_domains;
    let shared = shared_domains.above(name);
    // The longest name decides: a tenant that proves a subdomain owns that subdomain.
    let allowed = match (holder, shared) {
        (Some(holder), shared) if shared.is_none_or(|it| it.len() <= holder.name.len()) => {
            holder.tenant_id() == tenant
        }
        // Of what tenants share each may have one name, not all.
        (_, shared) => shared.is_some() && !is_wildcard(hostname),
    };
    let allowed = allowed && !(is_wildcard(hostname) && shared_domains.reach_below(name));
    Ok(match (allowed, reserved) {
        (true, _) => Ok(()),
        (false, Some(Reserved::Local)) => refused(),
        (false, _) if hostname == CATCH_ALL => {
            Err(("hostname_not_verified", "an operator grants the domain '*'".to_owned()))
        }
        (false, _) => {
            let detail = format!("{hostname} is not below a domain of yours; see /v1/domains");
            Err(("hostname_not_verified", detail))
        }
    })
}

/// What is known of hostnames in a cluster.
struct Claimed {
    /// What publishes claim there, the own one among them.
    there: Vec<Soon<Vec<Claim>>>,
    /// The tenants that the hostnames belong to.
    holders: Vec<Soon<Option<TenantId>>>,
    /// What the publish itself claims, if that was asked, too.
    own: Option<Former>,
}

impl Claimed {
    /// Asks, and locks the hostnames. Those that the former publish may give up are locked together with the
    /// others, so that all locks are taken in one order.
    async fn ask(
        tx: &mut Transaction<'_>,
        spec: &ProductPublishSpec,
        former: &[String],
    ) -> Result<Self, Refusal> {
        let all = [spec.hostnames.as_slice(), former].concat();
        let there = table::claims_on_soon(tx, spec.cluster_id, &all).await?;
        let now = tx.now;
        let holders = table::holders_soon(tx, &spec.hostnames, now).await?;
        Ok(Self { there, holders, own: None })
    }
}

/// Who claims the hostnames of a publish, for [`refuse_taken`]: asked for together with everything else where no
/// locks are needed, otherwise only once those before it are taken.
pub(super) struct Early(Option<Claimed>);

impl Early {
    /// `former` is the publish as it is served now.
    pub(super) async fn ask(
        tx: &mut Transaction<'_>,
        spec: &ProductPublishSpec,
        former: Option<&ProductPublish>,
    ) -> Result<Self, Refusal> {
        if !tx.is_alone() {
            return Ok(Self(None));
        }
        let hostnames = former.map_or(&[][..], |former| &former.spec.hostnames);
        let mut claimed = Claimed::ask(tx, spec, hostnames).await?;
        if let Some(former) = former {
            claimed.own = Some(table::former_claims_soon(tx, former.id).await?);
        }
        Ok(Self(Some(claimed)))
    }
}

/// Enforces one tenant per host, one publish per base path of a host and gateway, and one gateway
/// per host at each port of a cluster. The error about another tenant's name says only that it is
/// taken. `former` are the hostnames that may be given up. Returns what the publish claims itself, for [`claim`].
pub(super) async fn refuse_taken(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
    former: &[String],
    Early(claimed): Early,
) -> Result<Option<Former>, Refusal> {
    let ProductPublish { tenant_id: tenant, spec, .. } = publish;
    let hostnames = &spec.hostnames;
    let claimed = match claimed {
        Some(claimed) => claimed,
        None => Claimed::ask(tx, spec, former).await?,
    };
    let there = tx.all(claimed.there).await?.concat();
    let holders = tx.all(claimed.holders).await?;
    let mut held = hostnames.iter().zip(holders);
    if let Some((name, _)) = held.find(|(_, holder)| table::is_another(*holder, *tenant)) {
        return Err(taken(hostnames, name, format!("{name} is not available")));
    }
    refuse_foreign_below(tx, *tenant, hostnames).await?;
    let own = there
        .iter()
        .filter(|claim| claim.publish_id != publish.id && hostnames.contains(&claim.hostname));
    let mut shared = SharedPorts::of(spec.gateway_id, spec.cluster_id);
    for claim in own {
        let Claim { hostname, base_path, publish_id, gateway_id, .. } = claim;
        let why = if *gateway_id == spec.gateway_id {
            (*base_path == spec.base_path)
                .then(|| format!("{hostname}{base_path} is served by publish {publish_id}"))
        } else {
            shared.with(tx, *gateway_id).await?.map(|port| at_port(claim, port))
        };
        if let Some(detail) = why {
            return Err(taken(hostnames, hostname, detail));
        }
    }
    Ok(claimed.own)
}

/// Refuses a wildcard above another tenant's hostname that is in no domain of that tenant, and one
/// above more domains of other tenants than gateways can be told to leave out.
async fn refuse_foreign_below(
    tx: &mut Transaction<'_>,
    tenant: TenantId,
    hostnames: &[String],
) -> Result<(), Refusal> {
    for hostname in hostnames {
        let Some(name) = below_wildcard(hostname) else { continue };
        let now = tx.now;
        if wildcard::foreign_host_below(tx, tenant, name, now).await?.is_some() {
            let detail = format!("a hostname below {name} is not available");
            return Err(taken(hostnames, hostname, detail));
        }
    }
    let kept_out = wildcard::kept_out_of(tx, tenant, hostnames).await?;
    match hostnames.iter().find(|it| is_wildcard(it) && kept_out.contains(it)) {
        Some(it) => Err(taken(hostnames, it, format!("too many names below {it} are others'"))),
        None => Ok(()),
    }
}

/// Checks a gateway that changes its ports: no other gateway may have one of its hosts at one of
/// them. No publish on the tenant's gateways can be made meanwhile
/// ([`listener_port::keep_publishes_of`]).
pub(super) async fn refuse_at_ports(
    tx: &mut Transaction<'_>,
    gateway: &Gateway,
) -> Result<(), Refusal> {
    for cluster in listener_port::clusters_of(tx, gateway.id, None).await? {
        let mut shared = SharedPorts::of(gateway.id, cluster);
        for claim in table::beside_gateway(tx, gateway.id, cluster).await? {
            if let Some(port) = shared.with(tx, claim.gateway_id).await? {
                let index = gateway.spec.listeners.iter().position(|it| it.port == port);
                let pointer = format!("/listeners/{}/port", index.unwrap_or_default());
                let detail = at_port(&claim, port);
                return Err(Refusal::conflict("hostname_taken", detail).at(pointer));
            }
        }
    }
    Ok(())
}

fn at_port(claim: &Claim, port: u16) -> String {
    let Claim { hostname, publish_id, gateway_id, .. } = claim;
    format!("at port {port}, {hostname} is served by publish {publish_id} on gateway {gateway_id}")
}

fn taken(hostnames: &[String], name: &str, detail: String) -> Refusal {
    let index = hostnames.iter().position(|it| it == name).unwrap_or(0);
    Refusal::conflict("hostname_taken", detail).at(format!("/hostnames/{index}"))
}

/// Claims the hostnames that the publish now serves and releases the others. `former` are its claims so far, if they
/// were asked for.
pub(super) async fn claim(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
    former: Option<Former>,
) -> Result<(), Refusal> {
    let claim = |hostname: &String| Claim {
        publish_id: publish.id,
        tenant_id: publish.tenant_id,
        gateway_id: publish.spec.gateway_id,
        hostname: hostname.clone(),
        base_path: publish.spec.base_path.clone(),
    };
    let claims: Vec<Claim> = publish.spec.hostnames.iter().map(claim).collect();
    let at = time(tx);
    match (publish.desired_revision, former) {
        (1, _) => table::insert_claims(tx, publish, &claims, at).await?,
        (_, None) => table::replace_claims(tx, publish, &claims, at).await?,
        (_, Some(former)) => {
            table::replace_former_claims(tx, publish, former, &claims, at).await?;
        }
    }
    Ok(())
}

/// Releases all of the publish's hostnames.
pub(super) async fn release(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
) -> Result<(), Refusal> {
    let at = time(tx);
    Ok(table::replace_claims(tx, publish, &[], at).await?)
}

fn time(tx: &Transaction<'_>) -> ClaimTime {
    ClaimTime { now: tx.now, cooldown: tx.operation.claims.hostname_cooldown }
}
