//! When the last of many hosts is served.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use futures::future::try_join_all;
use tokio::time::{Instant, sleep};

use super::caller::{Caller, Target};
use crate::edge::Answer;

/// Between two calls of a host that is not served yet.
const POLL: Duration = Duration::from_millis(2);

/// Longer than the slowest layout takes for 50,000 publishes.
const LOST: Duration = Duration::from_secs(1_800);

/// Hosts that are looked at while the others are assumed to be no later.
const SAMPLE: usize = 500;

/// Connections to each Envoy on which all hosts are called.
const CONNECTIONS: usize = 4;

/// What callers of a host see once it is served.
#[derive(Clone, Debug)]
pub struct Expected {
    pub host: String,
    /// The header `x-edition`.
    pub edition: String,
    /// What it may say before; without it the host is unknown before.
    pub former: Option<String>,
}

impl Expected {
    /// A host that is unknown before.
    pub fn new(host: String, edition: String) -> Self {
        Self { host, edition, former: None }
    }

    /// Whether this is the answer, rather than the one before. Any other answer is an error.
    fn is_served(&self, answer: &Answer) -> Result<bool> {
        let edition = answer.header("x-edition");
        match (answer.status, &self.former) {
            (200, _) if edition == Some(&self.edition) => Ok(true),
            (200, Some(former)) if edition == Some(former) => Ok(false),
            (404, None) => Ok(false),
            _ => bail!("a wrong answer, neither {self:?} nor what was before: {answer:?}"),
        }
    }
}

/// When hosts were served.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// When the first answer came.
    began: Instant,
    /// When the last host was served that was not at its first call.
    pub(super) waited: Option<Instant>,
}

impl Walk {
    /// When the last host was served, at the latest.
    pub(super) fn served(self) -> Instant {
        self.waited.unwrap_or(self.began)
    }

    /// The later one of both.
    fn and(self, other: Self) -> Self {
        Self { began: self.began.max(other.began), waited: self.waited.max(other.waited) }
    }
}

/// Calls each host until it is served, one after another. A host that is served at its first call
/// may have been served at any time before.
pub(super) async fn walk(
    caller: &mut Caller,
    hosts: impl IntoIterator<Item = Expected>,
) -> Result<Walk> {
    let (deadline, mut began, mut waited) = (Instant::now() + LOST, None, None);
    for expected in hosts {
        let mut first = true;
        loop {
            let answer = caller.get(&expected.host, None).await?;
            began = began.or(Some(Instant::now()));
            if expected.is_served(&answer)? {
                break;
            }
            ensure!(Instant::now() < deadline, "{} is not served after {LOST:?}", expected.host);
            first = false;
            sleep(POLL).await;
        }
        if !first {
            waited = Some(Instant::now());
        }
    }
    Ok(Walk { began: began.unwrap_or_else(Instant::now), waited })
}

/// Walks over some of the hosts, evenly spread and in no order, on each of these Envoys.
pub(super) async fn sample(
    targets: &[Target],
    publishes: usize,
    expected: impl Fn(usize) -> Expected,
) -> Result<Walk> {
    let number = publishes.min(SAMPLE);
    // Coprime to every number of hosts below it.
    let mixed = |place: usize| place * 7_919 % number.max(1);
    // The last publish is one of them.
    let index = |place: usize| publishes - 1 - mixed(place) * publishes / number.max(1);
    let one = async |target: &Target| {
        let mut caller = Caller::open(target.clone()).await?;
        walk(&mut caller, (0..number).map(index).map(&expected)).await
    };
    together(try_join_all(targets.iter().map(one)).await?)
}

/// Calls all hosts on each of these Envoys, until each is served.
pub async fn everywhere(
    setup: &super::Setup,
    publishes: usize,
    expected: impl Fn(usize) -> Expected,
) -> Result<Walk> {
    let targets = setup.targets();
    let parts = targets.iter().flat_map(|target| (0..CONNECTIONS).map(move |part| (target, part)));
    let one = async |(target, part): (&Target, usize)| {
        let mut caller = Caller::open(target.clone()).await?;
        walk(&mut caller, (part..publishes).step_by(CONNECTIONS).map(&expected)).await
    };
    together(try_join_all(parts.map(one)).await?)
}

fn together(walks: Vec<Walk>) -> Result<Walk> {
    let all = walks.into_iter().reduce(Walk::and);
    anyhow::Context::context(all, "no Envoy")
}
