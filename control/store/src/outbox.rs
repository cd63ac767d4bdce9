//! Table `outbox`: which objects changed, not how. Rows are appended in the transaction of the
//! change; followers ([`Tail`]) read the object from the database.

mod tail;
mod writers;

use std::fmt;

use chrono::{DateTime, Utc};
use imp_core::{
    AgentId, ClusterId, CredentialId, GatewayId, PlanId, ProductPublishId, SubscriptionId,
};
use uuid::Uuid;

use crate::cause::Cause;
use crate::sql::any;
use crate::table::micros;
use crate::{Result, Store, Tx};

pub(crate) use tail::PATIENCE;
pub use tail::{Tail, Told};
pub(crate) use writers::Writers;

macro_rules! subjects {
    ($($(#[$doc:meta])* $name:ident($id:ident) = $word:literal),* $(,)?) => {
        /// The object that a row is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Subject {
            $($(#[$doc])* $name($id),)*
        }

        impl Subject {
            fn columns(self) -> (&'static str, Uuid) {
                match self {
                    $(Self::$name(id) => ($word, id.0),)*
                }
            }

            /// `None` for a newer release's kind, which this one does nothing for.
            fn read(kind: &str, id: Uuid) -> Option<Self> {
                match kind {
                    $($word => Some(Self::$name($id(id))),)*
                    _ => None,
                }
            }
        }
    };
}

subjects! {
    /// A cluster was created, changed or deleted.
    Cluster(ClusterId) = "cluster",
    /// An agent was registered or revoked.
    Agent(AgentId) = "agent",
    /// A gateway template.
    Gateway(GatewayId) = "gateway",
    /// A publish.
    ProductPublish(ProductPublishId) = "product_publish",
    /// A plan's terms.
    Plan(PlanId) = "plan",
    /// A subscription.
    Subscription(SubscriptionId) = "subscription",
    /// A credential.
    Credential(CredentialId) = "credential",
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, id) = self.columns();
        write!(f, "{kind} {id}")
    }
}

/// Appends the subject; followers wake after the commit.
pub async fn append(tx: &mut Tx, subject: Subject) -> Result<()> {
    let (kind, id) = subject.columns();
    let Cause { request_id, traceparent } = tx.cause().clone();
    let sql = "INSERT INTO outbox (kind, subject, mark, request_id, traceparent) \
        VALUES ($1, $2, $3, $4, $5)";
    tx.will_tell();
    later!(tx.conn(), any, sql, kind, id, mark(), request_id, traceparent)
}

/// A random mark; see [`crate::history`].
fn mark() -> i64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    i64::from_be_bytes((high ^ low).to_be_bytes())
}

/// The number of the newest visible row; 0 if there never was one.
pub async fn head(store: &Store) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(seq), 0) FROM outbox";
    let rows = fetch!(store.read().await?.conn(), "outbox", (i64,), sql)?;
    Ok(rows.first().map_or(0, |(head,)| *head))
}

/// Deletes older rows and returns how many. The newest row always stays, so that the head never
/// decreases.
pub async fn prune(tx: &mut Tx, older_than: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM outbox WHERE at < $1 AND seq < (SELECT MAX(seq) FROM outbox)";
    execute!(tx.conn(), sql, micros(older_than))
}
