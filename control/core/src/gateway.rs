//! A gateway: a template of listeners. Nothing is deployed by it alone; a publish does that.

mod settings;

use chrono::{DateTime, Utc};
use imp_grammar::caps;
use imp_grammar::classes::{self, Class};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::product_publish::PublishError;
use crate::stored::{states, words};
use crate::{Check, ClusterId, GatewayId, Meta, TenantId, Violations, grammar};

pub use settings::{EscapedSlash, GatewaySettings, UnderscoreHeaders};

/// The writable fields of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewaySpec {
    /// Unique in the tenant.
    #[schema(example = "public")]
    pub name: String,
    /// A description for people.
    #[serde(default)]
    pub description: String,
    /// The data plane that serves it.
    #[serde(default)]
    pub gateway_class: GatewayClass,
    /// At least one.
    pub listeners: Vec<Listener>,
    /// What its listeners do to every call, before routing.
    #[serde(default)]
    pub settings: GatewaySettings,
}

states! {
    /// The data planes.
    #[derive(Default)]
    pub enum GatewayClass {
        /// Envoy, by xDS or by Gateway API.
        #[default]
        EnvoyGateway,
        /// NGINX Gateway Fabric, by Gateway API.
        Nginx,
        /// Kong, by Gateway API.
        Kong,
        /// Traefik, by Gateway API.
        Traefik,
        /// APISIX, by Gateway API.
        Apisix,
    }
}

impl GatewayClass {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EnvoyGateway => "envoy-gateway",
            Self::Nginx => "nginx",
            Self::Kong => "kong",
            Self::Traefik => "traefik",
            Self::Apisix => "apisix",
            Self::Newer(word) => word.as_str(),
        }
    }

    /// Whether agents of this release can serve it. Publishing also checks what the connected
    /// agents support.
    pub fn has_driver(self) -> bool {
        self.class().is_some()
    }

    /// What its gateways can do by Gateway API.
    pub fn class(self) -> Option<&'static Class> {
        classes::find(self.as_str())
    }

    /// Whether Envoys of it are served by xDS.
    pub fn has_xds(self) -> bool {
        self == Self::EnvoyGateway
    }
}

impl GatewaySpec {
    /// A word in a listener or setting that this release does not know, with its field.
    pub fn newer_word(&self) -> Option<(&'static str, &'static str)> {
        let mut protocols = self.listeners.iter().map(|listener| listener.protocol);
        let protocol = protocols.find_map(|protocol| Some(("protocol", protocol.newer_word()?)));
        protocol.or_else(|| self.settings.newer_word())
    }
}

/// A port to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique in the gateway.
    #[schema(example = "http")]
    pub name: String,
    /// 1 to 65,535; unique in the gateway.
    #[schema(example = 8080)]
    pub port: u16,
    /// The protocol of clients.
    pub protocol: ListenerProtocol,
    /// The hostname that publishes must have; any when absent.
    #[serde(default)]
    pub hostname: Option<String>,
}

/// What all listeners on one port of a cluster must have in common, because one socket serves them.
/// The hostname, which tells them apart, is not included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerSettings {
    /// The protocol of clients.
    pub protocol: ListenerProtocol,
    /// What the listener does to every call.
    #[serde(default, skip_serializing_if = "GatewaySettings::is_default")]
    pub gateway: GatewaySettings,
}

impl ListenerSettings {
    /// The first setting that differs.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        let protocol = (self.protocol != other.protocol).then_some("protocol");
        protocol.or_else(|| self.gateway.differences(other.gateway).next())
    }
}

impl GatewaySpec {
    /// The settings that its listener must share with others on its port.
    pub fn settings_of(&self, listener: &Listener) -> ListenerSettings {
        ListenerSettings { protocol: listener.protocol, gateway: self.settings }
    }
}

words! {
    /// The protocol of clients.
    pub enum ListenerProtocol {
        /// HTTP/1.1 and HTTP/2 in the clear.
        Http = "HTTP",
        /// Not supported yet.
        Https = "HTTPS",
    }
}

impl Check for GatewaySpec {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::name(&self.name));
        v.take("description", grammar::description(&self.description));
        if !self.gateway_class.has_driver() {
            let class = self.gateway_class.as_str();
            v.add("gateway_class", "unsupported_gateway_class", format!("no driver for '{class}'"));
        }
        v.within("settings", |v| self.settings.check(v));
        if self.listeners.is_empty() {
            v.add("listeners", "required", "at least one listener");
        }
        if !v.at_most("listeners", self.listeners.len(), &caps::LISTENERS_PER_GATEWAY) {
            return;
        }
        let mut seen = Vec::new();
        v.each("listeners", &self.listeners, |v, listener| {
            listener.check(v);
            if seen.iter().any(|old: &&Listener| old.name == listener.name) {
                v.add("name", "duplicate_name", "another listener has this name");
            }
            if seen.iter().any(|old: &&Listener| old.port == listener.port) {
                v.add("port", "duplicate_port", "another listener has this port");
            }
            seen.push(listener);
        });
    }

    fn canonicalise(&mut self) {
        for hostname in self.listeners.iter_mut().filter_map(|it| it.hostname.as_mut()) {
            if let Ok(canonical) = grammar::hostname(hostname) {
                *hostname = canonical;
            }
        }
    }
}

impl Check for Listener {
    fn check(&self, v: &mut Violations) {
        v.take("name", grammar::slug(&self.name));
        if self.port == 0 {
            v.add("port", "out_of_range", "1 to 65535");
        }
        if self.protocol == ListenerProtocol::Https {
            v.add(
                "protocol",
                "unsupported_protocol",
                "HTTPS listeners are not supported yet; use HTTP",
            );
        }
        if let Some(hostname) = &self.hostname {
            v.take("hostname", grammar::hostname(hostname));
        }
    }
}

/// A gateway template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gateway {
    /// The gateway's unique id.
    pub id: GatewayId,
    /// The tenant that owns it.
    pub tenant_id: TenantId,
    #[serde(flatten)]
    pub spec: GatewaySpec,
    #[serde(flatten)]
    pub meta: Meta,
}

/// A cluster in which a gateway is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayCondition {
    /// The cluster that refuses it.
    pub cluster_id: ClusterId,
    /// The reason, as the agent or an Envoy reported it.
    pub last_error: PublishError,
    /// Since when it is refused.
    pub since: DateTime<Utc>,
}
