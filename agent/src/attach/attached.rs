//! One Gateway that a gateway of ours attaches to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imp_kube::{Force, Key, Kind, Object, kinds};
use imp_translate::envoy_gateway::{self, Attachment};
use serde_json::Value;
use tokio::time::Instant;

use super::certificate;
use super::driver::Driver;
use super::plan::{Plan, Undedicated, is_applied};
use super::rules::Rules;
use super::seen::{Gateway, Mode, Name, Policy};
use super::trouble::Trouble;
use crate::backoff::Backoff;
use crate::fleet::{ChangedHost, Led, NotLed, Stands, Wanted};

/// How often certificate and bootstrap are looked at.
const LOOK: Duration = Duration::from_secs(600);

/// Somebody who changes our policy again and again is not answered faster.
const CALM: Duration = Duration::from_secs(2);

/// Why a Gateway is shared although its annotation does not say so. There is nothing to be tried again.
fn why_shared(gateway: &Gateway, plan: &Plan) -> Option<String> {
    match (&plan.undedicated, &gateway.mode) {
        (Some(Undedicated::Route((kind, namespace, name))), _) => Some(format!(
            "it is to be dedicated, and {kind} {namespace}/{name} is served there: it is shared until that is gone"
        )),
        (Some(Undedicated::Names(port)), _) => Some(format!(
            "it is to be dedicated, and its TLS listeners on port {port} have different hostnames, which only its own routes tell apart: it is shared"
        )),
        (Some(Undedicated::ListenerSets), _) => Some(
            "it is to be dedicated, and lets others add listeners (allowedListeners): it is shared"
                .to_owned(),
        ),
        (None, Mode::Unknown(word)) => Some(format!(
            "the annotation imp-gateway.io/mode is {word:?}, neither \"shared\" nor \"dedicated\": it is shared"
        )),
        (None, _) => None,
    }
}

/// What was made of all hosts, for those that come and go after that.
#[derive(Debug)]
struct Settled {
    /// What the API server had told by then.
    seen: u64,
    rules: Rules,
    is_applied: bool,
}

#[derive(Debug)]
pub(super) struct Attached {
    /// The gateway of ours, once something was written for it.
    ours: Option<String>,
    /// When certificate and bootstrap were written or found good.
    prepared: Option<Instant>,
    /// The policy, and its generation.
    written: Option<(Value, i64)>,
    written_at: Instant,
    /// When it is written once more, if Envoy Gateway has said nothing of that generation.
    again_at: Option<Instant>,
    silence: Backoff,
    /// What makes another generation of the same policy.
    priority: u8,
    led: Led,
    /// `None` while all hosts must be looked at.
    settled: Option<Settled>,
    /// What was last said about it.
    said: Option<String>,
    /// What was last said of its mode.
    said_of_mode: Option<String>,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// Whether the next try may succeed as soon as the Gateway or the policy changes.
    needs_news: bool,
}

impl Default for Attached {
    fn default() -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let (ours, prepared, written, led, settled, said, said_of_mode) = Default::default();
        let (written_at, retry_at, needs_news) = (Instant::now(), None, false);
        let silence = Backoff::new(Duration::from_secs(5), Duration::from_secs(60));
        let (again_at, priority) = (None, 0);
        Self {
            ours,
            prepared,
            written,
            written_at,
            again_at,
            silence,
            priority,
            led,
            settled,
            said,
            said_of_mode,
            backoff,
            retry_at,
            needs_news,
        }
    }
}

impl Attached {
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let look = self.retry_at.or_else(|| Some(self.prepared? + LOOK));
        // Whoever waits for another try writes nothing before.
        let again = self.again_at.filter(|_| self.retry_at.is_none());
        look.into_iter().chain(again).min()
    }

    /// Envoy Gateway (1.9.1) loses what it would say of a policy if it works on another Gateway at that moment. It says it of the
    /// next generation, so silence has the policy written once more, later each time.
    fn hear(&mut self, known: Option<&Policy>) {
        let Some((_, generation)) = &self.written else { return };
        let programmed = known.and_then(|policy| policy.programmed.as_ref());
        if programmed.is_some_and(|(observed, ..)| observed >= generation) {
            self.again_at = None;
            self.silence.reset();
        } else if self.again_at.is_some_and(|at| at <= Instant::now()) {
            self.priority ^= 1;
            self.again_at = None;
        }
    }

    /// Whether it is not waiting for another try.
    pub(super) fn is_due(&self) -> bool {
        self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// The cause of a failure may be gone.
    pub(super) fn try_now(&mut self) {
        self.retry_at = self.retry_at.map(|at| at.min(Instant::now()));
    }

    /// The Gateway or the policy is another one, or says something else.
    pub(super) fn has_news(&mut self) {
        if self.needs_news {
            self.try_now();
        }
    }

    pub(super) fn is_written(&self) -> bool {
        self.written.is_some()
    }

    pub(super) fn succeeded(&mut self, (namespace, name): &Name) {
        self.retry_at = None;
        self.backoff.reset();
        if self.said.take().is_some() {
            tracing::info!(gateway = %format!("{namespace}/{name}"), "the Gateway has what it should");
        }
    }

    /// Says it once, and waits for the next try.
    pub(super) fn failed(&mut self, (namespace, name): &Name, trouble: &Trouble) {
        self.retry_at = Some(Instant::now() + self.backoff.next());
        self.needs_news = trouble.may_end_with_news();
        let words = trouble.to_string();
        if self.said.as_ref() != Some(&words) {
            tracing::warn!(gateway = %format!("{namespace}/{name}"), why = words, "the Gateway does not have what it should; tried again, and all is served as before");
            self.said = Some(words);
        }
    }

    /// Takes the hosts that have come or gone, if nothing else has changed and nothing is to be written for them: their
    /// cost does not grow with the others. Returns whether that was all.
    fn follow(&mut self, driver: &mut Driver, name: &Name) -> bool {
        let (Some(ours), Some(settled)) = (&self.ours, &self.settled) else { return false };
        let is_quiet = self.retry_at().is_none_or(|at| at > Instant::now());
        if !is_quiet || settled.seen != driver.seen.revision(name) {
            return false;
        }
        let Some(changed) = driver.fleet.changed_hosts(ours) else { return false };
        let stands = |of: &ChangedHost| match settled.rules.stands(of)? {
            // A policy is under way: with the next one that is applied.
            Stands::Leads if !settled.is_applied => Some((of.host.clone(), Stands::Nowhere)),
            Stands::Leads => Some((of.host.clone(), Stands::Leads)),
            Stands::Nowhere => Some((of.host.clone(), Stands::Nowhere)),
            // It is said which route has it.
            Stands::Refused(_) => None,
        };
        let stands: Option<Vec<_>> = changed.iter().map(stands).collect();
        let Some(mut stands) = stands else { return false };
        stands.retain(|(host, now)| self.led.stands(host) != *now);
        if !stands.is_empty() {
            stands.iter().for_each(|(host, now)| self.led.put(host, *now));
            driver.kept.change(ours, &stands);
            driver.fleet.lead(ours, &stands);
        }
        true
    }

    /// Brings the Gateway to what it should have.
    pub(super) async fn settle(&mut self, driver: &mut Driver, name: &Name) -> Result<(), Trouble> {
        if self.follow(driver, name) {
            return Ok(());
        }
        self.settled = None;
        let Some(gateway) = driver.seen.gateways.get(name).cloned() else { return Ok(()) };
        let ours = uuid::Uuid::try_parse(&gateway.ours);
        let ours = ours.map_err(|_| Trouble::Label(gateway.ours.clone()))?.hyphenated().to_string();
        if !driver.is_first(name, &gateway.ours) {
            return Err(Trouble::Twice(ours));
        }
        if self.ours.as_ref().is_some_and(|before| *before != ours) {
            // Another one of ours: its Envoys get another certificate.
            driver.leads_no_more(&self.ours.take().unwrap_or_default());
            *self = Self::default();
        }
        let (namespace, name) = name.clone();
        let attachment = Attachment { namespace, name, gateway_id: ours.clone() };
        // A gateway without a publish is not told to agents, and the Gateway needs the EnvoyProxy that it names.
        let wanted = driver.fleet.wanted(&ours);
        self.prepare(driver, &attachment, wanted.is_some()).await?;
        let Some(wanted) = wanted else { return self.withdraw(driver, &attachment).await };
        if self.ours.is_none() {
            self.led.hosts = driver.kept.of(&ours);
        }
        self.ours = Some(ours);
        self.lead(driver, &attachment, &gateway, &wanted).await
    }

    /// The certificate and the bootstrap. Until we know the gateway, those of another agent stay.
    async fn prepare(
        &mut self,
        driver: &Driver,
        of: &Attachment,
        is_known: bool,
    ) -> Result<(), Trouble> {
        let is_new = is_known && self.ours.is_none();
        if !is_new && self.prepared.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        let attaching = &driver.attaching;
        let state_dir = &attaching.state_dir;
        let secret = key(&kinds::SECRET, &attaching.envoys, &of.secret_name());
        let found = driver.cluster.get(&secret).await?;
        let authority = certificate::authority_key(state_dir)?;
        let is_good = |it: &Value| certificate::is_good(it, &authority, &of.gateway_id);
        if !found.as_ref().is_some_and(is_good) {
            if found.is_some() && !is_known {
                return Ok(());
            }
            is_ours(&secret, found.as_ref())?;
            let issued = certificate::issue(state_dir, &of.gateway_id)?;
            let secret = envoy_gateway::secret(of, &attaching.envoys, &issued);
            driver.cluster.apply(&Object::new(secret)?, Force::Yes).await?;
        }
        let proxy = key(&kinds::ENVOY_PROXY, &of.namespace, &of.object_name());
        is_ours(&proxy, driver.cluster.get(&proxy).await?.as_ref())?;
        let proxy = envoy_gateway::envoy_proxy(of, &attaching.agent);
        driver.cluster.apply(&Object::new(proxy)?, Force::Yes).await?;
        self.prepared = Some(Instant::now());
        Ok(())
    }

    /// The policy, and what the fleet hears of it.
    async fn lead(
        &mut self,
        driver: &mut Driver,
        of: &Attachment,
        gateway: &Gateway,
        wanted: &Wanted,
    ) -> Result<(), Trouble> {
        let name = (of.namespace.clone(), of.name.clone());
        let seen = driver.seen.revision(&name);
        let plan = Plan::of(&name, gateway, wanted, &driver.seen);
        self.say_refused(driver, &name, &plan);
        self.say_mode(&name, gateway, &plan);
        let own = (of.namespace.clone(), of.object_name());
        let options = &driver.attaching.options;
        let edge = &wanted.gateway.edge;
        let mut policy = envoy_gateway::policy(of, &plan.tables, &plan.dedicated, edge, options)?;
        let known = driver.seen.policies.get(&own).cloned();
        self.hear(known.as_ref());
        policy["spec"]["priority"] = self.priority.into();
        let is_there = |(written, generation): &(Value, i64)| {
            *written == policy && known.as_ref().is_some_and(|it| it.generation <= *generation)
        };
        if !self.written.as_ref().is_some_and(is_there) {
            let changed_by_others =
                self.written.as_ref().is_some_and(|(written, _)| *written == policy);
            if changed_by_others && self.written_at.elapsed() < CALM {
                return Err(Trouble::Fight(of.object_name()));
            }
            // What is refused stops leading to us even if the policy cannot be written.
            self.tell(driver, of, plan.led(&self.led.hosts, false));
            if known.is_none() {
                let key = key(&kinds::ENVOY_PATCH_POLICY, &own.0, &own.1);
                is_ours(&key, driver.cluster.get(&key).await?.as_ref())?;
            }
            let object = Object::new(policy.clone())?;
            let applied = driver.cluster.apply(&object, Force::Yes).await?;
            let generation = applied.generation();
            self.written = Some((policy, generation));
            self.written_at = Instant::now();
            self.again_at = Some(Instant::now() + self.silence.next());
            let known = driver.seen.policies.entry(own.clone()).or_default();
            known.generation = known.generation.max(generation);
        }
        let generation = self.written.as_ref().map_or(0, |(_, generation)| *generation);
        let known = driver.seen.policies.get(&own).cloned();
        let is_applied = is_applied(known.as_ref(), generation);
        self.tell(driver, of, plan.led(&self.led.hosts, is_applied));
        if gateway.parameters.as_deref() != Some(&*of.object_name()) {
            return Err(Trouble::Parameters(of.object_name()));
        }
        refusal(known.as_ref(), generation, of)?;
        self.settled = Some(Settled { seen, rules: plan.rules, is_applied });
        Ok(())
    }

    fn say_mode(&mut self, (namespace, name): &Name, gateway: &Gateway, plan: &Plan) {
        let why = why_shared(gateway, plan);
        if self.said_of_mode == why {
            return;
        }
        let gateway = format!("{namespace}/{name}");
        match &why {
            Some(why) => {
                tracing::warn!(gateway, why, "the Gateway has not the mode that it should")
            }
            None => tracing::info!(gateway, "the Gateway has the mode that it should"),
        }
        self.said_of_mode = why;
    }

    fn tell(&mut self, driver: &mut Driver, of: &Attachment, led: Led) {
        if self.led != led {
            self.led = led.clone();
            driver.kept.set(&of.gateway_id, &led.hosts);
            driver.fleet.set_led(&of.gateway_id, Some(led));
        }
    }

    /// Names the route that has a host: only here, where operators read.
    fn say_refused(&self, driver: &Driver, name: &Name, plan: &Plan) {
        let known = &self.led.refused;
        let new = |(host, why): &(&Arc<str>, &NotLed)| known.get(*host) != Some(*why);
        for (host, why) in BTreeMap::iter(&plan.refused).filter(new) {
            let route =
                driver.seen.owner(name, host).map(|(kind, ns, it)| format!("{kind} {ns}/{it}"));
            let gateway = format!("{}/{}", name.0, name.1);
            tracing::warn!(gateway, %host, ?why, route, "a host cannot lead to a publish");
        }
    }

    /// The last publish of the gateway is gone: nothing leads to it, and its listeners are its own again.
    async fn withdraw(&mut self, driver: &mut Driver, of: &Attachment) -> Result<(), Trouble> {
        if self.ours.is_none() {
            return Ok(());
        }
        driver.leads_no_more(&of.gateway_id);
        let policy = key(&kinds::ENVOY_PATCH_POLICY, &of.namespace, &of.object_name());
        let found = driver.cluster.get(&policy).await?;
        if found.is_some() && is_ours(&policy, found.as_ref()).is_ok() {
            driver.cluster.delete(&policy, None).await?;
            tracing::info!(object = %policy, "removed: no publish is on its gateway any more");
        }
        driver.seen.policies.remove(&(of.namespace.clone(), of.object_name()));
        (self.ours, self.written, self.led, self.again_at) = Default::default();
        Ok(())
    }

    /// Removes what leads to us. While the Gateway is there, its Envoys keep their bootstrap: without the EnvoyProxy
    /// that it names Envoy Gateway would refuse it.
    pub(super) async fn detach(&mut self, driver: &mut Driver, name: &Name) -> Result<(), Trouble> {
        let (namespace, gateway) = name;
        let gateway_id = self.ours.clone().unwrap_or_default();
        let of = Attachment { namespace: namespace.clone(), name: gateway.clone(), gateway_id };
        if let Some(ours) = &self.ours {
            driver.leads_no_more(ours);
        }
        let mut gone = vec![key(&kinds::ENVOY_PATCH_POLICY, namespace, &of.object_name())];
        let theirs = driver.cluster.get(&key(&kinds::GATEWAY, namespace, gateway)).await?;
        if theirs.is_none() {
            gone.push(key(&kinds::ENVOY_PROXY, namespace, &of.object_name()));
            gone.push(key(&kinds::SECRET, &driver.attaching.envoys, &of.secret_name()));
        }
        for key in &gone {
            let found = driver.cluster.get(key).await?;
            if found.is_some() && is_ours(key, found.as_ref()).is_ok() {
                driver.cluster.delete(key, None).await?;
                tracing::info!(object = %key, "removed: no gateway is attached there any more");
            }
        }
        driver.seen.policies.remove(&(namespace.clone(), of.object_name()));
        Ok(())
    }
}

fn refusal(known: Option<&Policy>, generation: i64, of: &Attachment) -> Result<(), Trouble> {
    match known.and_then(|policy| policy.programmed.as_ref()) {
        Some((observed, false, words)) if *observed >= generation => {
            Err(Trouble::NotApplied { name: of.object_name(), words: words.clone() })
        }
        _ => Ok(()),
    }
}

fn key(kind: &'static Kind, namespace: &str, name: &str) -> Key {
    Key { kind, namespace: Some(namespace.to_owned()), name: name.to_owned() }
}

/// Nothing of somebody else's is written over.
fn is_ours(key: &Key, found: Option<&Value>) -> Result<(), Trouble> {
    let label = |object: &Value| {
        object.pointer("/metadata/labels")?.get(envoy_gateway::GATEWAY_LABEL).cloned()
    };
    match found {
        Some(object) if label(object).is_none() => Err(Trouble::Foreign(key.to_string())),
        _ => Ok(()),
    }
}

#[cfg(test)]
impl Attached {
    /// One whose certificate and bootstrap are there.
    pub(super) fn prepared(ours: &str) -> Self {
        Self { ours: Some(ours.to_owned()), prepared: Some(Instant::now()), ..Self::default() }
    }

    pub(super) fn led(&self) -> &Led {
        &self.led
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_of_which_nothing_is_said_is_written_again_until_something_is() {
        let mut attached = Attached { written: Some((Value::Null, 2)), ..Attached::default() };
        let said = |observed| Policy {
            generation: observed,
            programmed: Some((observed, true, String::new())),
        };
        let late = Some(Instant::now());
        attached.again_at = late;
        attached.hear(Some(&said(1)));
        assert_eq!((attached.priority, attached.again_at), (1, None));
        attached.again_at = late;
        attached.hear(None);
        assert_eq!(attached.priority, 0);
        attached.again_at = Some(Instant::now() + LOOK);
        assert_eq!(attached.retry_at(), attached.again_at);
        attached.hear(None);
        assert_eq!((attached.priority, attached.again_at.is_some()), (0, true), "not yet");
        attached.hear(Some(&said(2)));
        assert_eq!((attached.priority, attached.again_at), (0, None));
    }

    #[test]
    fn what_its_owner_mends_is_taken_at_once_and_a_fight_is_not_answered_faster() {
        let name = ("edge".to_owned(), "gw".to_owned());
        let after = |trouble: Trouble| {
            let mut attached = Attached::default();
            (0..10).for_each(|_| attached.failed(&name, &trouble));
            assert!(!attached.is_due());
            attached.has_news();
            attached.is_due()
        };
        assert!(after(Trouble::Parameters("imp-gw".to_owned())));
        let (name, words) = ("imp-gw".to_owned(), "ResourceNotFound".to_owned());
        assert!(after(Trouble::NotApplied { name, words }));
        assert!(!after(Trouble::Fight("imp-gw".to_owned())));
    }
}
