//! Acknowledgements that wait for their subscriber. Within a type they are sent in the order of the
//! responses; types do not wait for each other.

use std::collections::HashMap;
use std::task::Poll;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tonic::Status;

use crate::TypeUrl;
use crate::wire::DeltaDiscoveryRequest;

type Answer = BoxFuture<'static, Result<DeltaDiscoveryRequest, Status>>;

#[derive(Default)]
pub(super) struct Waiting {
    by_type: HashMap<TypeUrl, FuturesOrdered<Answer>>,
}

impl Waiting {
    pub(super) fn push(&mut self, type_url: TypeUrl, answer: Answer) {
        self.by_type.entry(type_url).or_default().push_back(answer);
    }

    /// Whether an acknowledgement of this type is pending, which must not be overtaken.
    pub(super) fn holds(&self, type_url: &TypeUrl) -> bool {
        self.by_type.get(type_url).is_some_and(|answers| !answers.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        self.by_type.values().map(FuturesOrdered::len).sum()
    }

    /// The next one that is ready; pending forever if there is none.
    pub(super) async fn next(&mut self) -> Result<DeltaDiscoveryRequest, Status> {
        std::future::poll_fn(|cx| {
            for answers in self.by_type.values_mut().filter(|answers| !answers.is_empty()) {
                if let Poll::Ready(Some(answer)) = answers.poll_next_unpin(cx) {
                    return Poll::Ready(answer);
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;

    fn answer(nonce: &str) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest { response_nonce: nonce.to_owned(), ..Default::default() }
    }

    #[tokio::test]
    async fn types_overtake_each_other_and_answers_of_one_type_do_not() {
        let (slow, fast) = (TypeUrl::from("slow"), TypeUrl::from("fast"));
        let mut waiting = Waiting::default();
        assert!(waiting.next().now_or_never().is_none(), "nothing waits");
        let (done, is_done) = oneshot::channel();
        waiting.push(slow.clone(), Box::pin(async { Ok(is_done.await.unwrap()) }));
        waiting.push(slow.clone(), Box::pin(async { Ok(answer("slow 2")) }));
        waiting.push(fast.clone(), Box::pin(async { Ok(answer("fast 1")) }));
        assert!(waiting.holds(&slow) && waiting.holds(&fast) && waiting.len() == 3);
        assert_eq!(waiting.next().await.unwrap().response_nonce, "fast 1");
        assert!(!waiting.holds(&fast));
        assert!(waiting.next().now_or_never().is_none(), "the second waits for the first");
        done.send(answer("slow 1")).unwrap();
        assert_eq!(waiting.next().await.unwrap().response_nonce, "slow 1");
        assert_eq!(waiting.next().await.unwrap().response_nonce, "slow 2");
        assert_eq!(waiting.len(), 0);
    }
}
