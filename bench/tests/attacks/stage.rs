//! The stack with a victim and an attacker of the same kind; each one's objects are under its name.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use imp_bench::process::eventually;
use imp_bench::rest::{Rest, text};
use imp_bench::sample::{Buyer, Provider, backend};
use imp_bench::stack::{Options, PATIENCE, Stack};
use imp_bench::upstream::Upstream;
use imp_grammar::proof::{PrivateKey, SEED_BYTES};
use serde_json::{Value, json};

use super::cases::Vars;
use super::wire::unhex;

/// In the victim's texts; must be in no answer to anybody else.
pub(crate) const MARK: &str = "only-the-victim-reads-this";

pub(crate) struct Stage {
    pub(crate) stack: Stack,
    /// The upstream of victim and attacker.
    pub(crate) upstream: Upstream,
    pub(crate) vars: Vars,
    victim: Provider,
    attacker: Provider,
}

impl Stage {
    pub(crate) async fn start() -> Result<Self> {
        let stack = Stack::start(Options::default()).await?;
        let upstream = Upstream::start().await?;
        let mut vars = Vars::new();
        let victim = owner(&stack, &upstream, &mut vars, "victim").await?;
        let attacker = owner(&stack, &upstream, &mut vars, "attacker").await?;
        platform(&stack, &mut vars).await?;
        tokens(&stack, &attacker, &mut vars).await?;
        for (who, provider) in [("victim", &victim), ("attacker", &attacker)] {
            let publish = vars.get(&format!("{who}.product-publishes")).context("a publish")?;
            stack.publish_reaches(publish, "active", PATIENCE).await?;
            vars.insert(format!("{who}.port"), provider.port.to_string());
        }
        let stage = Self { stack, upstream, vars, victim, attacker };
        stage.serves("victim").await?;
        stage.serves("attacker").await?;
        Ok(stage)
    }

    pub(crate) fn rest(&self) -> SocketAddr {
        self.stack.control.listen
    }

    pub(crate) fn gateway(&self, whose: &str) -> SocketAddr {
        if whose == "attacker" { self.attacker.address() } else { self.victim.address() }
    }

    pub(crate) fn var(&self, name: &str) -> String {
        self.vars.get(name).cloned().unwrap_or_else(|| format!("<no {name}>"))
    }

    async fn serves(&self, who: &str) -> Result<()> {
        let (host, key) = (self.var(&format!("{who}.host")), self.var(&format!("{who}.key")));
        let headers = [("x-api-key", key.as_str())];
        self.stack.answers(self.gateway(who), &host, "/", &headers, 200).await.map(drop)
    }

    /// After the attacks all processes run and respond; the victim's objects are unchanged.
    pub(crate) async fn processes_live(&self) -> Result<()> {
        for address in [self.rest(), self.stack.agent.admin] {
            let url = format!("http://{address}/readyz");
            eventually(&url, PATIENCE, async || {
                let answer = reqwest::get(&url).await.ok();
                Ok(answer.filter(|answer| answer.status().is_success()).map(drop))
            })
            .await?;
        }
        self.serves("victim").await?;
        let service = format!("/v1/api-services/{}", self.var("victim.api-services"));
        let service = self.victim.rest.get(&service).await?;
        ensure!(service["description"] == MARK, "the victim's service was changed: {service}");
        Ok(())
    }
}

/// A provider with a published product, and a customer of it with a key.
async fn owner(stack: &Stack, upstream: &Upstream, vars: &mut Vars, who: &str) -> Result<Provider> {
    let provider = Provider::create(stack, who).await?;
    let description = if who == "victim" { MARK } else { "" };
    let mut service = backend(stack);
    service["endpoints"][0]["port"] = json!(upstream.address().port());
    let service = json!({
        "name": "api", "description": description, "backends": [service],
        "routes": [
            { "name": "all", "path": { "prefix": "/" }, "backend_id": "upstream" },
            { "name": "pay", "path": { "prefix": "/pay" }, "methods": ["POST"], "backend_id": "upstream" },
        ],
    });
    let service_id = provider.service(&service).await?;
    let product_id = provider.product("product", std::slice::from_ref(&service_id)).await?;
    let plan_id = provider.plan(&product_id, 1_000_000).await?;
    let host = format!("{who}.example.com");
    let publish_id = provider.publish(&product_id, &host, "api_key").await?;
    let open = format!("open.{who}.example.com");
    let open_id = provider.publish(&product_id, &open, "none").await?;
    let buyer = Buyer::create(&provider, "customer").await?;
    let key = buyer.buy(&product_id, &plan_id).await?;
    let first = async |rest: &Rest, kind: &str| -> Result<String> {
        let list = rest.get(&format!("/v1/{kind}")).await?;
        text(list["items"].get(0).unwrap_or(&Value::Null), "id")
    };
    let ids = [
        ("tenants", provider.tenant_id.clone()),
        ("api-services", service_id),
        ("gateways", provider.gateway_id.clone()),
        ("products", product_id),
        ("plans", plan_id),
        ("product-publishes", publish_id),
        ("open-publish", open_id),
        ("customers", buyer.customer_id.clone()),
        ("client-apps", buyer.client_app_id.clone()),
        ("subscriptions", key.subscription_id),
        ("credentials", key.credential_id),
        ("consumers", first(&buyer.rest, "consumers").await?),
        ("api-tokens", first(&provider.rest, "api-tokens").await?),
        ("key", key.text),
        ("host", host),
        ("open", open),
    ];
    vars.extend(ids.into_iter().map(|(name, id)| (format!("{who}.{name}"), id)));
    Ok(provider)
}

/// What belongs to no tenant: the cluster, its agent, a registration token; and this agent's
/// secrets.
async fn platform(stack: &Stack, vars: &mut Vars) -> Result<()> {
    let cluster = format!("/v1/clusters/{}", stack.cluster_id);
    let token = stack.admin.post(&format!("{cluster}/registration-tokens"), &json!({})).await?;
    let agents = stack.admin.get(&format!("{cluster}/agents")).await?;
    let agent = agents["items"].get(0).unwrap_or(&Value::Null);
    let other = stack.admin.post("/v1/clusters", &json!({ "name": "other" })).await?;
    let identity = std::fs::read(stack.directory().join("agent/identity.json"))?;
    let identity: Value = serde_json::from_slice(&identity)?;
    let hub_key = std::fs::read_to_string(stack.directory().join("control/agent-key"))?;
    let seed = text(&identity, "key")?;
    let own: [u8; SEED_BYTES] = imp_process::random::random();
    let thumbprint = |seed: &[u8]| -> Result<String> {
        Ok(PrivateKey::from_seed(seed).context("a key")?.thumbprint())
    };
    let all = [
        ("agent.jkt", thumbprint(&unhex(&seed))?),
        ("agent.seed", seed),
        ("own.jkt", thumbprint(&own)?),
        ("own.seed", own.map(|byte| format!("{byte:02x}")).concat()),
        ("cluster", stack.cluster_id.clone()),
        ("other-cluster", text(&other, "id")?),
        ("registration-token", text(&token, "id")?),
        ("agent", text(agent, "id")?),
        ("agent.jwt", text(&identity, "jwt")?),
        ("hub.key", hub_key.trim().to_owned()),
        ("token.registration", text(&token, "token")?),
    ];
    vars.extend(all.map(|(name, value)| (name.to_owned(), value)));
    Ok(())
}

/// The attacker's people, each with one role; and texts that only look like tokens.
async fn tokens(stack: &Stack, attacker: &Provider, vars: &mut Vars) -> Result<()> {
    let provider = ["org-admin", "api-developer", "business-manager", "gateway-owner"];
    let customer = ["customer-admin", "api-consumer"];
    let mut make = async |name: &str, roles: &[&str]| -> Result<()> {
        let of_customer = roles.iter().any(|role| customer.contains(role));
        let id = vars.get("attacker.customers").filter(|_| of_customer);
        let body = json!({
            "tenant_id": attacker.tenant_id, "name": name, "roles": roles, "customer_id": id,
        });
        let made = stack.admin.post("/v1/api-tokens", &body).await?;
        vars.insert(format!("token.{name}"), text(&made, "token")?);
        vars.insert(format!("id.{name}"), text(&made, "id")?);
        Ok(())
    };
    make("attacker", &provider).await?;
    make("customer", &customer).await?;
    for role in provider.iter().chain(&customer) {
        make(role, &[*role]).await?;
    }
    make("deleted", &provider).await?;
    let deleted = vars.remove("id.deleted").context("a token")?;
    stack.admin.delete(&format!("/v1/api-tokens/{deleted}")).await?;
    let key = vars.get("victim.key").context("a key")?.clone();
    let jwt = vars.get("agent.jwt").context("a JWT")?.clone();
    let good = vars.get("token.attacker").context("a token")?.clone();
    let (body, last) = good.split_at(good.len() - 1);
    let changed = format!("{body}{}", if last == "0" { "1" } else { "0" });
    let forged = [
        ("an-api-key", key),
        ("an-agents-jwt", jwt),
        ("changed", changed),
        ("cut", body.to_owned()),
        ("empty", String::new()),
        ("longer", format!("{good}0")),
        ("lower", good.to_ascii_lowercase()),
        ("zeros", format!("imp_pat_{}", "0".repeat(36))),
        ("huge", "a".repeat(8_000)),
        ("null", "null".to_owned()),
        ("wildcard", "%".to_owned()),
        ("sql", "' OR '1'='1".to_owned()),
    ];
    vars.extend(forged.map(|(name, value)| (format!("token.{name}"), value)));
    Ok(())
}
