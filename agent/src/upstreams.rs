//! The addresses that tenants' calls may be sent to, from flags and the platform's own ports.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use imp_grammar::network::{self, Networks};
use imp_translate::{Closed, Upstreams};
use thiserror::Error;

use crate::config::{Config, EnvoyAdmin};

/// An invalid flag.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{flag} {entry}: {why}")]
pub struct UpstreamsError {
    flag: &'static str,
    entry: String,
    why: &'static str,
}

/// The time limit for looking up the control plane's name, once; the agent starts without it, too.
const LOOKUP: Duration = Duration::from_secs(2);

/// Parses the flags, and closes the sockets in `own` and the control plane's.
pub async fn upstreams(config: &Config, own: &[SocketAddr]) -> Result<Upstreams, UpstreamsError> {
    let mut closed: Vec<Closed> = own.iter().copied().map(Closed::socket).collect();
    if let EnvoyAdmin::Tcp(address) = config.envoy_admin {
        closed.push(Closed::socket(address));
    }
    closed.extend(control(&config.control).await.into_iter().map(Closed::socket));
    for entry in entries(&config.deny_upstream) {
        closed.push(denied(entry)?);
    }
    let resolvers = config.upstream_dns.clone();
    let authorities = config.upstream_ca_file.as_ref().map(|file| file.display().to_string());
    Ok(Upstreams { networks: allowed(&config.allow_upstream)?, closed, resolvers, authorities })
}

fn entries(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(|entry| entry.trim()).filter(|entry| !entry.is_empty())
}

/// Parses networks. Names are skipped, because they are judged by what they resolve to; they may be
/// in the list so that control plane and agents can share one.
fn allowed(list: &[String]) -> Result<Networks, UpstreamsError> {
    let mut nets = Vec::new();
    for entry in entries(list) {
        let looks_like_a_name = !entry.contains(['/', ':', ' ']);
        match network::parse(entry) {
            Some(net) => nets.push(net),
            None if looks_like_a_name => {}
            None => {
                let (flag, why) = ("--allow-upstream", "neither a network, an address nor a name");
                return Err(UpstreamsError { flag, entry: entry.to_owned(), why });
            }
        }
    }
    Ok(Networks::allowing(&nets))
}

fn denied(entry: &str) -> Result<Closed, UpstreamsError> {
    if let Some(net) = network::parse(entry) {
        return Ok(Closed::network(net));
    }
    entry.parse().map(Closed::socket).map_err(|_| UpstreamsError {
        flag: "--deny-upstream",
        entry: entry.to_owned(),
        why: "neither a network nor ADDR:PORT",
    })
}

/// The control plane's addresses, in a stable order.
async fn control(url: &str) -> Vec<SocketAddr> {
    let Ok(url) = url.parse::<axum::http::Uri>() else { return vec![] };
    let Some(host) = url.host() else { return vec![] };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let https = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return vec![SocketAddr::from((ip, port))];
    }
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((bare, port))).await;
    let mut addresses: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(_)) | Err(_) => {
            tracing::warn!(
                host,
                "the control plane's name cannot be resolved, so its address is closed to tenants only if its network is; --deny-upstream closes it"
            );
            vec![]
        }
    };
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(change: impl Fn(&mut Config)) -> Config {
        let mut config = Config::in_process("http://127.0.0.1:8081", "/nowhere".as_ref());
        config.allow_upstream.clear();
        change(&mut config);
        config
    }

    #[tokio::test]
    async fn networks_are_taken_and_names_are_left_to_their_addresses() {
        let given = config(|config| {
            config.allow_upstream = vec!["10.0.0.0/8".into(), "localhost".into(), " ".into()];
        });
        let networks = upstreams(&given, &[]).await.unwrap().networks;
        assert_eq!(networks.judge("10.1.2.3".parse().unwrap()), Ok(()));
        assert!(networks.judge("127.0.0.1".parse().unwrap()).is_err());
    }

    #[tokio::test]
    async fn the_platforms_own_ports_are_closed() {
        let given = config(|config| {
            config.envoy_admin = "127.0.0.1:19901".parse().unwrap();
            config.deny_upstream = vec!["10.9.0.0/16".into(), "10.1.1.1:443".into()];
        });
        let own = "127.0.0.1:18000".parse().unwrap();
        let socket = |text: &str| Closed::socket(text.parse().unwrap());
        let expected = vec![
            Closed::socket(own),
            socket("127.0.0.1:19901"),
            socket("127.0.0.1:8081"),
            Closed::network("10.9.0.0/16".parse().unwrap()),
            socket("10.1.1.1:443"),
        ];
        assert_eq!(upstreams(&given, &[own]).await.unwrap().closed, expected);
    }

    #[tokio::test]
    async fn what_is_neither_is_named_with_its_flag() {
        let wrong = config(|config| config.allow_upstream = vec!["10.0.0.0/99".into()]);
        let error = upstreams(&wrong, &[]).await.unwrap_err().to_string();
        assert!(error.contains("--allow-upstream 10.0.0.0/99"), "{error}");
        let wrong = config(|config| config.deny_upstream = vec!["db.internal".into()]);
        let error = upstreams(&wrong, &[]).await.unwrap_err().to_string();
        assert!(error.contains("--deny-upstream db.internal"), "{error}");
    }

    #[tokio::test]
    async fn the_control_plane_is_found_by_address_and_by_name() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(control("http://10.0.0.1").await, [at("10.0.0.1:80")]);
        assert_eq!(control("https://[fd00::1]:8443").await, [at("[fd00::1]:8443")]);
        assert!(control("http://localhost:8081").await.contains(&at("127.0.0.1:8081")));
        assert_eq!(control("http://no-such-name.invalid:1").await, []);
    }
}
