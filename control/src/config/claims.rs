//! Flags about hostnames and ports that tenants may claim.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args};

/// Claims on hostnames and ports.
#[derive(Clone, Debug, Args)]
pub struct ClaimFlags {
    /// Domains below which every tenant may claim hostnames, first come, first served. All other
    /// hostnames need a domain that the tenant has proven or been granted.
    #[arg(long, env = "IMP_SHARED_DOMAINS", value_delimiter = ',', value_name = "DOMAIN,..")]
    pub shared_domains: Vec<String>,
    /// How long an unused hostname stays reserved for its former tenant: 90s, 30m, 24h, 7d.
    #[arg(
        long,
        env = "IMP_HOSTNAME_COOLDOWN",
        default_value = "24h",
        value_parser = duration,
        value_name = "DURATION"
    )]
    pub hostname_cooldown: Duration,
    /// Ports that no gateway of any cluster may listen on. The default lists the ports of an agent
    /// and of Envoy; each cluster's port_ranges say what else gateways may use.
    #[arg(
        long,
        env = "IMP_RESERVED_PORTS",
        value_delimiter = ',',
        default_value = "18000,18001,19901",
        value_name = "PORT|FIRST-LAST,.."
    )]
    pub reserved_ports: Vec<String>,
    /// Let several gateways of a cluster, also of different tenants, listen on one port if their
    /// listeners' settings agree. Set to false while an agent runs a release that serves only the
    /// first of them.
    #[arg(
        long,
        env = "IMP_SHARE_PORTS",
        default_value_t = true,
        action = ArgAction::Set,
        value_name = "BOOL"
    )]
    pub share_ports: bool,
    /// The DNS server to ask for the records that prove domains. [default: the system's]
    #[arg(long, env = "IMP_DNS_SERVER", value_name = "ADDR:PORT")]
    pub dns_server: Option<SocketAddr>,
}

impl ClaimFlags {
    /// For tests and benchmarks: the domains that they use are shared.
    pub fn in_process() -> Self {
        let shared = ["example.com", "example.org", "example", "test"];
        Self {
            shared_domains: shared.map(str::to_owned).to_vec(),
            hostname_cooldown: Duration::from_secs(24 * 3600),
            reserved_ports: Vec::new(),
            share_ports: true,
            dns_server: None,
        }
    }
}

/// `90s`, `30m`, `24h`, `7d`; at most ten years.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and one of s, m, h, d; at most 3650d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = number.checked_mul(seconds).filter(|it| *it <= 3650 * 24 * 3600);
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("7d"), duration("168h"));
        for bad in ["", "h", "24", "-1h", "1w", "1.5h", "99999999999999999999s", "4000d", "1é"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
