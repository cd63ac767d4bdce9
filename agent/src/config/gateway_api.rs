//! Flags for delivery by Gateway API.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use imp_grammar::classes::{self, Class};

/// Delivers publishes by Gateway API, with `--kube` or `--kubeconfig`.
#[derive(Clone, Debug, Args)]
pub struct GatewayApiFlags {
    /// The classes of gateways that the Kubernetes cluster has (docs/gateway-classes.md), each with
    /// the name of its GatewayClass if that is another one: envoy-gateway=eg,traefik.
    #[arg(
        long,
        env = "IMP_GATEWAY_CLASSES",
        value_delimiter = ',',
        default_value = "envoy-gateway",
        value_name = "CLASS[=NAME],..",
        requires = "kubernetes"
    )]
    pub gateway_class: Vec<ClassName>,
    /// The namespace of the Gateways, routes and policies that the agent applies.
    #[arg(
        long,
        env = "IMP_GATEWAY_API_NAMESPACE",
        default_value = "imp-gateway",
        value_name = "NAME",
        requires = "kubernetes"
    )]
    pub gateway_api_namespace: String,
    /// After how many seconds without a connected Envoy publishes with `delivery: auto` of a gateway of class
    /// envoy-gateway go by Gateway API, until one is connected; 0: never.
    #[arg(
        long,
        env = "IMP_FALLBACK_AFTER",
        default_value = "30",
        value_parser = seconds,
        value_name = "SECONDS",
        requires = "kubernetes"
    )]
    pub fallback_after: Duration,
}

/// A longer grace is a typing error.
const LONGEST: u64 = 86_400;

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= LONGEST);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("0 to {LONGEST} seconds"))
}

impl Default for GatewayApiFlags {
    fn default() -> Self {
        Self {
            gateway_class: vec![ClassName {
                class: &classes::ENVOY_GATEWAY,
                name: classes::ENVOY_GATEWAY.word.to_owned(),
            }],
            gateway_api_namespace: "imp-gateway".to_owned(),
            fallback_after: Duration::from_secs(30),
        }
    }
}

/// A class, and the name of its `GatewayClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassName {
    pub class: &'static Class,
    pub name: String,
}

impl FromStr for ClassName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, name) = text.split_once('=').unwrap_or((text, text));
        let words = || classes::CLASSES.map(|class| class.word).join(", ");
        let class = classes::find(word).ok_or_else(|| format!("one of {}", words()))?;
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if name.is_empty() || name.len() > 253 || !name.chars().all(plain) {
            return Err("the name of a GatewayClass follows '='".to_owned());
        }
        Ok(Self { class, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_at_most_a_day() {
        assert_eq!(
            (seconds("0"), seconds("30")),
            (Ok(Duration::ZERO), Ok(Duration::from_secs(30)))
        );
        for wrong in ["", "-1", "30s", "86401"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_class_has_its_own_name_unless_another_is_given() {
        let read = |text: &str| text.parse::<ClassName>().map(|it| (it.class.word, it.name));
        assert_eq!(read("envoy-gateway=eg"), Ok(("envoy-gateway", "eg".to_owned())));
        assert_eq!(read("traefik"), Ok(("traefik", "traefik".to_owned())));
        for wrong in ["istio", "", "kong=", "kong=A", "=eg"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
