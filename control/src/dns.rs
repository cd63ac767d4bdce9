//! Looks up the DNS record that proves a domain.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use imp_core::TenantId;
use imp_core::domain::Domain;
use imp_grammar::caps;

use crate::refusal::Refusal;

/// The timeout of one attempt at one server.
const TRY: Duration = Duration::from_secs(2);

/// A resolver with bounds on time and concurrency. Cheap to clone.
#[derive(Clone)]
pub struct Dns {
    /// `None` if the machine has no usable configuration.
    resolver: Option<TokioResolver>,
    running: Running,
}

impl Dns {
    /// Uses this server, or those of the system.
    pub fn new(server: Option<SocketAddr>) -> Self {
        let builder = match server {
            Some(address) => {
                let mut server = NameServerConfig::udp_and_tcp(address.ip());
                for connection in &mut server.connections {
                    connection.port = address.port();
                }
                let config = ResolverConfig::from_name_servers(vec![server]);
                Ok(Resolver::builder_with_config(config, TokioRuntimeProvider::default()))
            }
            None => TokioResolver::builder_tokio(),
        };
        let resolver = builder.and_then(|mut builder| {
            bound(builder.options_mut());
            builder.build()
        });
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no DNS server: domains can be granted, not proven (--dns-server)");
        }
        Self { resolver: resolver.ok(), running: Running::default() }
    }

    /// Looks for the record. Other records of the name are never disclosed.
    pub async fn prove(&self, domain: &Domain) -> Result<(), Refusal> {
        let challenge = &domain.challenge;
        let resolver = self.resolver.as_ref().ok_or_else(|| unavailable("no DNS server is set"))?;
        let _one = self.running.one_more(domain.tenant_id)?;
        let name = format!("{}.", challenge.record);
        let answer = tokio::time::timeout(caps::DNS_TIME.time(), resolver.txt_lookup(name)).await;
        let found = match answer.map_err(|_| unavailable("DNS does not answer"))? {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Err(not_found(domain)),
            Err(error) => return Err(unavailable(&error.to_string())),
        };
        let proves = |data: &RData| match data {
            RData::TXT(text) => text.txt_data.concat() == challenge.value.as_bytes(),
            _ => false,
        };
        let mut records = found.answers().iter().take(caps::DNS_RECORDS.size());
        match records.any(|record| proves(&record.data)) {
            true => Ok(()),
            false => Err(not_found(domain)),
        }
    }
}

/// The tenants whose look-ups are running.
#[derive(Clone, Default)]
struct Running(Arc<Mutex<Vec<TenantId>>>);

/// A running look-up.
struct One<'r>(&'r Running, TenantId);

impl Running {
    /// Starts a look-up unless too many run, in total or for this tenant.
    fn one_more(&self, tenant: TenantId) -> Result<One<'_>, Refusal> {
        let mut running = self.tenants();
        let own = running.iter().filter(|it| **it == tenant).count();
        if !caps::DNS_LOOKUPS.admits(running.len() + 1) || !caps::TENANT_DNS_LOOKUPS.admits(own + 1)
        {
            return Err(unavailable("too many look-ups are under way"));
        }
        running.push(tenant);
        Ok(One(self, tenant))
    }

    fn tenants(&self) -> MutexGuard<'_, Vec<TenantId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        let mut running = self.0.tenants();
        if let Some(at) = running.iter().position(|it| *it == self.1) {
            running.swap_remove(at);
        }
    }
}

/// Disables caching, so that a new record is seen at once, and ignores the hosts file.
fn bound(options: &mut ResolverOpts) {
    options.timeout = TRY;
    options.attempts = 1;
    options.cache_size = 0;
    options.ndots = 1;
    options.use_hosts_file = ResolveHosts::Never;
}

fn not_found(domain: &Domain) -> Refusal {
    let (record, value) = (&domain.challenge.record, &domain.challenge.value);
    let detail =
        format!("there is no TXT record {record} with the text {value}; it may take a while");
    Refusal::conflict("proof_not_found", detail)
}

fn unavailable(why: &str) -> Refusal {
    let detail = "the DNS look-up failed; try again";
    Refusal::Unavailable { code: "dns_unavailable", detail, cause: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_look_ups_run_and_one_more_is_told_to_come_again() {
        let running = Running::default();
        let refused = |tenant| match running.one_more(tenant) {
            Err(Refusal::Unavailable { code, .. }) => Some(code),
            _ => None,
        };
        let mut held = Vec::new();
        while held.len() < caps::DNS_LOOKUPS.size() {
            let tenant = TenantId::new();
            for _ in 0..caps::TENANT_DNS_LOOKUPS.value {
                held.push(running.one_more(tenant).unwrap());
            }
            assert_eq!(refused(tenant), Some("dns_unavailable"), "its own share is used up");
        }
        assert_eq!(refused(TenantId::new()), Some("dns_unavailable"), "all are");
        held.pop();
        assert_eq!(refused(TenantId::new()), None);
    }
}
