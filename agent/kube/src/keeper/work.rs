//! What is done about one set at a time: requests in order, until one fails.

use std::sync::Arc;

use serde_json::Value;

use crate::cluster::{Cluster, Force};
use crate::fault::Fault;
use crate::object::{Key, Object};

/// The next requests of a set.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) set: Arc<str>,
    /// Applied one after the other.
    pub(super) apply: Vec<Object>,
    /// Deleted after that, each only if it is still the one with this `uid`.
    pub(super) delete: Vec<(Key, String)>,
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) set: Arc<str>,
    /// With the JSON that was applied, and what the API server made of it.
    pub(super) applied: Vec<(Object, Value)>,
    pub(super) deleted: Vec<Key>,
    pub(super) fault: Option<(Key, Fault)>,
}

impl Work {
    pub(super) async fn run(self, cluster: Cluster) -> Done {
        let Self { set, apply, delete } = self;
        let mut done = Done { set, applied: Vec::new(), deleted: Vec::new(), fault: None };
        for object in apply {
            match applied(&cluster, &object).await {
                Ok(live) => done.applied.push((object, live)),
                Err(fault) => {
                    done.fault = Some((object.key().clone(), fault));
                    return done;
                }
            }
        }
        for (key, uid) in delete {
            // Another one of the name is somebody else's: it has not our labels, or is watched.
            match cluster.delete(&key, Some(&uid)).await {
                Ok(_) | Err(Fault::Conflict(_)) => done.deleted.push(key),
                Err(fault) => {
                    done.fault = Some((key, fault));
                    return done;
                }
            }
        }
        done
    }
}

/// Asks first, so that it is known and counted when a field is taken from somebody: an object of ours
/// has only fields without which it would serve something else.
async fn applied(cluster: &Cluster, object: &Object) -> Result<Value, Fault> {
    match cluster.apply(object, Force::No).await {
        Err(Fault::Conflict(words)) => {
            metrics::counter!("imp_kube_conflicts_total").increment(1);
            tracing::warn!(object = %object.key(), words, "fields of ours were somebody else's; taken back");
            cluster.apply(object, Force::Yes).await.map(|applied| applied.object)
        }
        other => other.map(|applied| applied.object),
    }
}
