//! The publishes that are there in great numbers: of a hundred products, or of one each.

use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::walk::Expected;
use crate::sample::{Provider, echo_service};
use crate::stack::Stack;

/// Concurrent callers of the REST API.
pub(super) const CALLERS: usize = 4;

/// Tenants, if there are as many products: a tenant has at most 5,000 publishes, and its writes take
/// turns.
const TENANTS: usize = 28;

/// The most products of a tenant, below its cap.
const PRODUCTS: usize = 1_900;

/// What the publishes hold. In text `all`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Contents {
    /// So many products, each on many hosts.
    Shared(usize),
    /// A product and a service of its own for each publish.
    All,
}

impl Contents {
    /// How many contents so many publishes have.
    fn of(self, publishes: usize) -> usize {
        match self {
            Self::Shared(number) => number.min(publishes),
            Self::All => publishes,
        }
    }

    /// For names of figures.
    pub fn words(self) -> String {
        match self {
            Self::Shared(number) => format!("{number} contents"),
            Self::All => "all different".to_owned(),
        }
    }
}

impl FromStr for Contents {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("at least 1".to_owned()),
            Ok(number) => Ok(Self::Shared(number)),
            Err(_) if text == "all" => Ok(Self::All),
            Err(_) => Err("neither a number nor `all`".to_owned()),
        }
    }
}

/// Tenants with products that can be published. Their gateways share one port. Neither tenants nor
/// products are shared by two callers.
pub struct Bulk {
    tenants: Vec<Provider>,
    products: Vec<String>,
}

impl Bulk {
    /// Creates tenants, services and products, so that a publish is a single POST.
    pub async fn prepare(
        stack: &Stack,
        port: u16,
        contents: Contents,
        publishes: usize,
    ) -> Result<Self> {
        let number = contents.of(publishes);
        let tenants = number.min(TENANTS).max(number.div_ceil(PRODUCTS));
        let tenants = tenants.next_multiple_of(CALLERS);
        let create = async |index| Provider::create_at(stack, &format!("t{index}"), port).await;
        let tenants = by_callers(0..tenants, create).await?;
        let of = async |content| product(stack, tenant(&tenants, content)?, &label(content)).await;
        let products = by_callers(0..number, of).await?;
        Ok(Self { tenants, products })
    }

    /// Publishes all of these; returns how many were accepted per second.
    pub async fn load(&self, publishes: Range<usize>) -> Result<f64> {
        let (number, began) = (publishes.len(), Instant::now());
        by_callers(publishes, async |index| self.publish(index).await).await?;
        Ok(number as f64 / began.elapsed().as_secs_f64())
    }

    /// What callers of a publish see.
    pub fn expected(&self, publish: usize) -> Expected {
        Expected::new(host(publish), label(self.content(publish)))
    }

    async fn publish(&self, index: usize) -> Result<()> {
        let content = self.content(index);
        let product = self.products.get(content).context("not prepared")?;
        let tenant = tenant(&self.tenants, content)?;
        tenant.publish(product, &host(index), "none").await.map(drop)
    }

    fn content(&self, publish: usize) -> usize {
        publish % self.products.len().max(1)
    }
}

/// Creates a service and its product; `label` is what its answers say.
pub(super) async fn product(stack: &Stack, tenant: &Provider, label: &str) -> Result<String> {
    let service = tenant.service(&echo_service(stack, label, "/")).await?;
    tenant.product(label, &[service]).await
}

fn tenant(tenants: &[Provider], content: usize) -> Result<&Provider> {
    tenants.get(content % tenants.len().max(1)).context("no tenants")
}

fn label(content: usize) -> String {
    format!("content-{content}")
}

fn host(publish: usize) -> String {
    format!("b{publish}.scale.example")
}

/// Does this for each index by several callers at a time, each of which takes every fourth one;
/// returns the results in order.
pub(super) async fn by_callers<T>(
    indices: Range<usize>,
    one: impl AsyncFn(usize) -> Result<T>,
) -> Result<Vec<T>> {
    let caller = async |number: usize| {
        let mut done = Vec::new();
        for index in indices.clone().filter(|index| index % CALLERS == number) {
            done.push((index, one(index).await?));
        }
        Ok::<_, anyhow::Error>(done)
    };
    let parts = try_join_all((0..CALLERS).map(caller)).await?;
    let mut done: Vec<_> = parts.into_iter().flatten().collect();
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
