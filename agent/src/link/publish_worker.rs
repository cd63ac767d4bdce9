//! Parses and renders publishes on a thread of their own, one message after the other. A publish
//! can be expensive; other tenants' keys and revocations must not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt as _;
use imp_xds::client::{Rejections, Update};
use tokio::sync::{Mutex, mpsc, oneshot};
use tonic::Status;

use super::subscriber::HeldResources;

/// Sends messages to its task, which ends with it.
pub(super) struct PublishWorker {
    queue: mpsc::UnboundedSender<Order>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// The stream whose messages are accepted.
    stream: AtomicU64,
    /// Locked while a message is handled.
    turn: Mutex<()>,
}

struct Order {
    update: Update,
    stream: u64,
    done: oneshot::Sender<Result<Vec<(String, String)>, Status>>,
}

impl PublishWorker {
    pub(super) fn start(held_resources: Arc<HeldResources>) -> Self {
        // Bounded by the client's limit on unanswered messages.
        let (queue, orders) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        tokio::spawn(work(held_resources, orders, shared.clone()));
        Self { queue, shared }
    }

    /// Handles a message. Returns what was rejected.
    pub(super) fn take(&self, update: Update) -> Rejections {
        let (done, rejected) = oneshot::channel();
        let stream = self.shared.stream.load(Ordering::Acquire);
        let _gone_with_the_task = self.queue.send(Order { update, stream, done });
        Box::pin(rejected.map(|done| done.unwrap_or_else(|_| Err(over()))))
    }

    /// Begins a new stream: waits for the message in work, and drops the waiting ones, which will
    /// be sent again.
    pub(super) async fn settled(&self) {
        self.shared.stream.fetch_add(1, Ordering::AcqRel);
        drop(self.shared.turn.lock().await);
    }
}

async fn work(
    held_resources: Arc<HeldResources>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    shared: Arc<Shared>,
) {
    while let Some(Order { update, stream, done }) = orders.recv().await {
        let _turn = shared.turn.lock().await;
        if stream != shared.stream.load(Ordering::Acquire) {
            continue;
        }
        let applying = held_resources.clone();
        let applied = tokio::task::spawn_blocking(move || applying.apply(update)).await;
        let rejected = match applied {
            Ok((rejected, tightens)) => {
                if tightens {
                    held_resources.flush().await;
                }
                Ok(rejected)
            }
            // A part of it may have been applied: the next stream begins with what is held.
            Err(error) => {
                tracing::error!(%error, "publishes could not be taken");
                Err(Status::internal("the agent failed at this message; its log says why"))
            }
        };
        // Its stream may be gone.
        let _nobody_waits = done.send(rejected);
    }
}

/// The error for messages of a former stream.
fn over() -> Status {
    Status::cancelled("the stream is over")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as channel;
    use std::time::Duration;

    use imp_proto::config::ResourceType;
    use imp_xds::TypeUrl;
    use tokio::time::{sleep, timeout};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::fleet::Fleet;
    use crate::lkg::Lkg;

    struct Rig {
        fleet: Fleet,
        held_resources: Arc<HeldResources>,
        publish_worker: PublishWorker,
        cancel: CancellationToken,
        _directory: tempfile::TempDir,
    }

    impl Rig {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (lkg, _) = Lkg::open(directory.path()).unwrap();
            let cancel = CancellationToken::new();
            let fleet = Fleet::empty(lkg.clone(), cancel.clone());
            let held_resources =
                Arc::new(HeldResources::new(fleet.clone(), lkg, Vec::new(), false));
            let publish_worker = PublishWorker::start(held_resources.clone());
            Self { fleet, held_resources, publish_worker, cancel, _directory: directory }
        }

        /// A change that lasts until the sender is dropped.
        fn long_change(&self) -> channel::Sender<()> {
            let (begun, begins) = channel::channel();
            let (end, ends) = channel::channel::<()>();
            let fleet = self.fleet.clone();
            std::thread::spawn(move || {
                fleet.while_locked(|| {
                    begun.send(()).unwrap();
                    let _dropped = ends.recv();
                });
            });
            begins.recv().unwrap();
            end
        }

        /// Polls with a deadline.
        async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
            let polling = async {
                while !holds(self) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(20), polling).await.unwrap_or_else(|_| panic!("{what}"));
        }

        fn is_working(&self) -> bool {
            self.publish_worker.shared.turn.try_lock().is_err()
        }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            self.cancel.cancel();
        }
    }

    fn removal(kind: ResourceType, name: &str) -> Update {
        let type_url = TypeUrl::from(kind.type_url());
        Update { type_url, upserts: Vec::new(), removals: vec![name.to_owned()], more: false }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_revocation_does_not_wait_for_a_publish_that_takes_long() {
        let rig = Rig::new();
        let end = rig.long_change();
        let mut publish = rig.publish_worker.take(removal(ResourceType::Publish, "large"));
        // More than there are workers: each waits for the publish.
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let fleet = rig.fleet.clone();
                tokio::spawn(async move { fleet.statuses().len() })
            })
            .collect();
        rig.until("the publish is worked on", Rig::is_working).await;
        // Longer than the fleet's own ticks: time passes and keys are revoked.
        for revoked in 0..10 {
            timeout(Duration::from_secs(20), sleep(Duration::from_millis(100))).await.unwrap();
            let (rejected, tightens) = rig
                .held_resources
                .apply(removal(ResourceType::Credential, &format!("key-{revoked}")));
            assert!(rejected.is_empty() && tightens);
        }
        assert!((&mut publish).now_or_never().is_none(), "it still waits");
        drop(end);
        let rejected = timeout(Duration::from_secs(20), publish).await.expect("it ends");
        assert_eq!(rejected.unwrap(), []);
        for reader in readers {
            assert_eq!(reader.await.unwrap(), 0);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_new_stream_waits_for_what_is_under_way_and_drops_what_waits() {
        let rig = Rig::new();
        let end = rig.long_change();
        let first = rig.publish_worker.take(removal(ResourceType::Publish, "first"));
        rig.until("the first is worked on", Rig::is_working).await;
        let second = rig.publish_worker.take(removal(ResourceType::Publish, "second"));
        let mut settled = Box::pin(rig.publish_worker.settled());
        assert!((&mut settled).now_or_never().is_none(), "the first is under way");
        drop(end);
        timeout(Duration::from_secs(20), settled).await.expect("it settles");
        assert_eq!(first.await.unwrap(), []);
        assert!(second.await.is_err(), "it was not taken, and is not acknowledged");
        let third = rig.publish_worker.take(removal(ResourceType::Publish, "third"));
        let third = timeout(Duration::from_secs(20), third).await.expect("it goes on");
        assert_eq!(third.unwrap(), []);
    }
}
