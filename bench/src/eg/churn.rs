//! Adds, edits and deletes under load: what callers are told meanwhile.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::side::{Place, Side};
use super::watch::LOST;
use crate::edge::{Answer, Connection};
use crate::process::eventually;

/// Objects that change at a time, on each side.
const AT_ONCE: usize = 4;

/// Places that do not change and are called meanwhile.
const STEADY: usize = 20;

/// Between two calls of one place.
const PERIOD: Duration = Duration::from_millis(4);

/// Wrong answers that are kept as text.
const KEPT: usize = 10;

/// What an object's place answers, one after another: nothing else, and never back.
const STAGES: [&str; 4] = ["404", "v1", "v2", "404"];

/// Calls of one side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Wrong {
    pub calls: usize,
    /// Answers that are none of what was there before and after; a lost connection, too.
    pub changing: usize,
    /// Refusals (403) of what was being deleted, before it was gone (404).
    pub refused: usize,
    /// The same of places that do not change.
    pub steady: usize,
    /// Some of them.
    pub samples: Vec<String>,
}

impl Wrong {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.changing += other.changing;
        self.refused += other.refused;
        self.steady += other.steady;
        self.samples.extend(other.samples);
        self.samples.truncate(KEPT);
    }
}

/// What callers of both sides got.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Churn {
    pub theirs: Wrong,
    pub ours: Wrong,
}

/// Changes these of both sides at once, beside the first `there`, which stay.
pub(super) async fn churn(
    theirs: &impl Side,
    ours: &impl Side,
    there: usize,
    range: Range<usize>,
) -> Result<Churn> {
    let (theirs, ours) =
        tokio::try_join!(of_side(theirs, there, range.clone()), of_side(ours, there, range))?;
    Ok(Churn { theirs, ours })
}

async fn of_side(side: &impl Side, there: usize, range: Range<usize>) -> Result<Wrong> {
    let (over, mut steady) = (CancellationToken::new(), JoinSet::new());
    for number in 0..STEADY.min(there) {
        let place = side.place(number * there / STEADY.min(there));
        let caller = Caller::new(side, place, &["v1"], over.clone()).await?;
        steady.spawn(caller.run());
    }
    let cycles = stream::iter(range).map(|index| cycle(side, index)).buffer_unordered(AT_ONCE);
    let all: Vec<Wrong> = cycles.try_collect().await?;
    over.cancel();
    let mut wrong = Wrong::default();
    all.into_iter().for_each(|of_one| wrong.add(of_one));
    while let Some(of_one) = steady.join_next().await {
        let of_one = of_one??;
        wrong.add(Wrong { steady: of_one.changing, changing: 0, ..of_one });
    }
    Ok(wrong)
}

/// The life of one object.
async fn cycle(side: &impl Side, index: usize) -> Result<Wrong> {
    let over = CancellationToken::new();
    let caller = Caller::new(side, side.place(index), &STAGES, over.clone()).await?;
    let stage = caller.stage.clone();
    let calls = tokio::spawn(caller.run());
    let reached = async |wanted| {
        let seen = async || Ok((stage.load(Ordering::Relaxed) >= wanted).then_some(()));
        eventually(&format!("{}, step {wanted}", side.place(index).host), LOST, seen).await
    };
    side.add(index).await?;
    reached(1).await?;
    side.edit(index).await?;
    reached(2).await?;
    side.remove(index).await?;
    reached(3).await?;
    over.cancel();
    calls.await?
}

/// Calls one place until it is over.
struct Caller {
    address: std::net::SocketAddr,
    place: Place,
    stages: &'static [&'static str],
    stage: Arc<AtomicUsize>,
    connection: Option<Connection>,
    over: CancellationToken,
}

impl Caller {
    async fn new(
        side: &impl Side,
        place: Place,
        stages: &'static [&'static str],
        over: CancellationToken,
    ) -> Result<Self> {
        let address = side.edge().address;
        let connection = Some(Connection::open(address).await?);
        Ok(Self { address, place, stages, stage: Arc::default(), connection, over })
    }

    async fn run(mut self) -> Result<Wrong> {
        let (mut wrong, mut due) = (Wrong::default(), interval(PERIOD));
        while !self.over.is_cancelled() {
            due.tick().await;
            let answer = self.call().await;
            wrong.calls += 1;
            if self.is_refused(&answer) {
                wrong.refused += 1;
            } else if let Some(fault) = self.fault(&answer) {
                let of_one = Wrong { changing: 1, samples: vec![fault], ..Wrong::default() };
                wrong.add(of_one);
            }
        }
        Ok(wrong)
    }

    async fn call(&mut self) -> Result<Answer> {
        let mut connection = match self.connection.take() {
            Some(open) if !open.is_closing() => open,
            _ => Connection::open(self.address).await?,
        };
        let answer = connection.get(&self.place.host, &self.place.path, &[]).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Whether what is deleted is refused already: the agent knows no such publish from then on.
    fn is_refused(&self, answer: &Result<Answer>) -> bool {
        let is_leaving = self.stage.load(Ordering::Relaxed) + 2 == self.stages.len();
        is_leaving && answer.as_ref().is_ok_and(|answer| answer.status == 403)
    }

    /// What is wrong with an answer. One of the next step is the next step.
    fn fault(&self, answer: &Result<Answer>) -> Option<String> {
        let said = match answer {
            Ok(answer) if answer.status == 200 => {
                answer.header("x-edition").unwrap_or_default().to_owned()
            }
            Ok(answer) if answer.status == 404 => "404".to_owned(),
            Ok(answer) => {
                format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
            }
            Err(error) => format!("{error:#}"),
        };
        let stage = self.stage.load(Ordering::Relaxed);
        if self.stages.get(stage) == Some(&&*said) {
            return None;
        }
        if self.stages.get(stage + 1) == Some(&&*said) {
            self.stage.store(stage + 1, Ordering::Relaxed);
            return None;
        }
        let expected = self.stages.get(stage).context("no step").unwrap_or(&"?");
        Some(format!("{}{}: {said}, not {expected}", self.place.host, self.place.path))
    }
}
