//! Whether the proxies of a gateway have what its controller accepted.
//!
//! [`Probes`] says which publishes wait for which mark ([`imp_translate::gateway_api::mark_of`]); [`ask`] asks the
//! proxies for it. A gateway without an address, or whose proxies the agent cannot reach, is judged by
//! conditions alone.

use std::collections::HashMap;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use imp_kube::{Cluster, Key, kinds};
use imp_translate::gateway_api::{PROBE_PATH, ProbeTarget, gateway_name, mark_of};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::backoff::Backoff;

/// How long proxies may take before what waits is said to be not served.
const LATE: Duration = Duration::from_secs(10);
/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(5);

/// What proxies of a gateway say of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// There is an address to ask at, so the mark is worth being written: each is work for the controller.
    Found,
    /// They have it.
    Served,
    /// They answer with a former one, and did so for [`LATE`] after its controller took the mark. Asking goes on.
    Late,
    /// Nobody answers.
    Unreached,
    /// They cannot have it: its route was not accepted within [`LATE`].
    Unwritten,
}

impl Answer {
    /// Of metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Served => "served",
            Self::Late => "late",
            Self::Unreached => "unreached",
            Self::Unwritten => "unwritten",
        }
    }
}

/// An answer, and the mark that was asked for.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) gateway: String,
    pub(super) mark: u64,
    pub(super) answer: Answer,
}

/// Whether a publish that was accepted is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// As far as can be known.
    Yes,
    /// Not known yet.
    Asked,
    /// Proxies still have former configuration.
    No,
}

/// What waits for the proxies of all gateways.
#[derive(Debug, Default)]
pub(super) struct Probes {
    gateways: HashMap<String, Probe>,
}

#[derive(Debug, Default)]
struct Probe {
    /// The mark that was asked for last, or before it the one that the gateway came with.
    asked: u64,
    /// The question under way about it.
    asking: Option<Asking>,
    is_late: bool,
    /// Accepted revisions by set.
    waiting: HashMap<String, Waiting>,
}

/// An accepted revision.
#[derive(Debug)]
struct Waiting {
    revision: u64,
    /// The mark after it; none until one is written.
    mark: Option<u64>,
    /// Whether proxies are known not to have it.
    is_late: bool,
}

/// A question under way, which ends with this.
#[derive(Debug)]
struct Asking {
    _ends: DropGuard,
    /// Cancelled once the controller has accepted the mark: from then on proxies can be late.
    written: CancellationToken,
}

impl Probes {
    /// A gateway has come, or is another one: what waits asks again. Returns the mark that its route begins with.
    pub(super) fn open(&mut self, gateway: &str, now_ms: u64) -> u64 {
        let new = || Probe { asked: now_ms, ..Probe::default() };
        let probe = self.gateways.entry(gateway.to_owned()).or_insert_with(new);
        (probe.asking, probe.is_late) = (None, false);
        probe.waiting.values_mut().for_each(|waiting| waiting.mark = None);
        probe.asked
    }

    pub(super) fn close(&mut self, gateway: &str) {
        self.gateways.remove(gateway);
    }

    /// A revision was accepted: it waits for the mark after it.
    pub(super) fn accepted(&mut self, gateway: &str, set: &str, revision: u64) {
        if let Some(probe) = self.gateways.get_mut(gateway) {
            let waiting = Waiting { revision, mark: None, is_late: false };
            probe.waiting.insert(set.to_owned(), waiting);
        }
    }

    /// A set is not what was accepted any more.
    pub(super) fn forget(&mut self, gateway: &str, set: &str) {
        if let Some(probe) = self.gateways.get_mut(gateway) {
            probe.waiting.remove(set);
        }
    }

    /// The next mark to ask for, if something waits for one and the last is not asked for. Several that wait share it.
    pub(super) fn next_mark(&mut self, gateway: &str, now_ms: u64) -> Option<u64> {
        let probe = self.gateways.get_mut(gateway)?;
        let is_free = probe.asking.is_none() || probe.is_late;
        let unmarked = probe.waiting.values().any(|waiting| waiting.mark.is_none());
        if !is_free || !unmarked {
            return None;
        }
        // Marks grow over restarts, so that one of a former process is never taken for a later one.
        let mark = now_ms.max(probe.asked + 1);
        probe.asked = mark;
        for waiting in probe.waiting.values_mut() {
            waiting.mark.get_or_insert(mark);
        }
        Some(mark)
    }

    /// The question about the last mark is under way, until `ends` is cancelled; a former one ends. `written` is
    /// cancelled when proxies can have the mark.
    pub(super) fn asking(
        &mut self,
        gateway: &str,
        ends: CancellationToken,
        written: CancellationToken,
    ) {
        if let Some(probe) = self.gateways.get_mut(gateway) {
            let asking = Asking { _ends: ends.drop_guard(), written };
            (probe.asking, probe.is_late) = (Some(asking), false);
        }
    }

    /// The controller has accepted the route with this mark.
    pub(super) fn written(&self, gateway: &str, mark: u64) {
        let probe = self.gateways.get(gateway).filter(|probe| probe.asked == mark);
        if let Some(asking) = probe.and_then(|probe| probe.asking.as_ref()) {
            asking.written.cancel();
        }
    }

    /// Whether this is about the mark that was asked for last.
    pub(super) fn is_asked(&self, told: &Told) -> bool {
        self.gateways.get(&told.gateway).is_some_and(|probe| probe.asked == told.mark)
    }

    /// Takes an answer. Returns the sets that it is about.
    pub(super) fn told(&mut self, told: &Told) -> Vec<String> {
        let Some(probe) = self.gateways.get_mut(&told.gateway) else { return Vec::new() };
        if told.mark != probe.asked || told.answer == Answer::Found {
            return Vec::new();
        }
        let marked = |(set, waiting): (&String, &Waiting)| {
            waiting.mark.is_some_and(|mark| mark <= told.mark).then(|| set.clone())
        };
        let sets: Vec<_> = probe.waiting.iter().filter_map(marked).collect();
        match told.answer {
            Answer::Found => {}
            Answer::Late => {
                probe.is_late = true;
                let late = probe.waiting.iter_mut().filter(|(set, _)| sets.contains(set));
                late.for_each(|(_, waiting)| waiting.is_late = true);
            }
            Answer::Served | Answer::Unreached => {
                (probe.asking, probe.is_late) = (None, false);
                probe.waiting.retain(|set, _| !sets.contains(set));
            }
            Answer::Unwritten => {
                (probe.asking, probe.is_late) = (None, false);
                // What proxies were known not to have is not served because the next mark cannot be written: it is asked for again.
                probe.waiting.retain(|set, waiting| waiting.is_late || !sets.contains(set));
                let late = probe.waiting.values_mut().filter(|waiting| waiting.is_late);
                late.for_each(|waiting| waiting.mark = None);
            }
        }
        sets
    }

    /// Whether an accepted revision is served.
    pub(super) fn serving(&self, gateway: &str, set: &str, revision: u64) -> Serving {
        let Some(probe) = self.gateways.get(gateway) else { return Serving::Yes };
        match probe.waiting.get(set) {
            Some(waiting) if waiting.revision == revision => match waiting.is_late {
                true => Serving::No,
                false => Serving::Asked,
            },
            _ => Serving::Yes,
        }
    }
}

/// What the proxies of a gateway are asked.
pub(super) struct Question {
    pub(super) namespace: String,
    pub(super) gateway: String,
    pub(super) mark: u64,
    pub(super) targets: Vec<ProbeTarget>,
    /// Cancelled when proxies can have the mark.
    pub(super) written: CancellationToken,
}

/// Asks the proxies of a gateway until they have the mark, or nobody is there to be asked.
pub(super) async fn ask(
    cluster: Cluster,
    question: Question,
    answers: mpsc::UnboundedSender<Told>,
) {
    let Question { namespace, gateway, mark, targets, written } = question;
    let key =
        Key { kind: &kinds::GATEWAY, namespace: Some(namespace), name: gateway_name(&gateway) };
    let tell = |answer| {
        let _ends_with_the_driver = answers.send(Told { gateway: gateway.clone(), mark, answer });
    };
    let (begun, mut waits) = (Instant::now(), Backoff::new(SHORTEST, LONGEST));
    let mut since_written = None;
    let (mut found, mut reached, mut is_late) = (None::<Instant>, false, false);
    let mut addresses = Vec::new();
    loop {
        if addresses.is_empty() {
            addresses = match cluster.get(&key).await {
                Ok(found) => found.as_ref().map(addresses_of).unwrap_or_default(),
                Err(_away) => Vec::new(),
            };
            if addresses.is_empty() {
                return tell(Answer::Unreached);
            }
            if found.is_none() {
                // The mark is written from now on.
                found = Some(Instant::now());
                tell(Answer::Found);
            }
        }
        match lowest(&addresses, &targets).await {
            Some(found) if found >= mark => return tell(Answer::Served),
            Some(_) => reached = true,
            // Proxies come and go: their address may be another one.
            None => addresses.clear(),
        }
        if since_written.is_none() && written.is_cancelled() {
            since_written = Some(Instant::now());
        }
        if begun.elapsed() > LATE && !reached {
            return tell(Answer::Unreached);
        }
        // What they answer says nothing then.
        if found.is_some_and(|at| at.elapsed() > LATE) && since_written.is_none() {
            return tell(Answer::Unwritten);
        }
        if since_written.is_some_and(|since| since.elapsed() > LATE) && !is_late {
            is_late = true;
            tell(Answer::Late);
        }
        let wait = waits.next();
        sleep(if is_late { wait } else { wait.min(Duration::from_millis(250)) }).await;
    }
}

/// Where the proxies of a `Gateway` are.
fn addresses_of(gateway: &Value) -> Vec<String> {
    let list = gateway.pointer("/status/addresses").and_then(Value::as_array);
    let value = |it: &Value| it.get("value").and_then(Value::as_str).map(str::to_owned);
    list.into_iter().flatten().filter_map(value).collect()
}

/// The lowest mark of all listeners, at the first address that answers for all of them.
async fn lowest(addresses: &[String], targets: &[ProbeTarget]) -> Option<u64> {
    for address in addresses {
        let of_all = stream::iter(targets).then(|target| timeout(ANSWER, mark_at(address, target)));
        let of_all = of_all.map(|mark| mark.ok().flatten().ok_or(()));
        // The first listener that does not answer ends it.
        let lowest = of_all.try_fold(u64::MAX, |lowest, mark| ready(Ok(lowest.min(mark)))).await;
        if lowest.is_ok() {
            return lowest.ok();
        }
    }
    None
}

/// The mark that a proxy answers with. One that answers otherwise has the mark 0: it has no route of ours yet.
async fn mark_at(address: &str, target: &ProbeTarget) -> Option<u64> {
    let stream = TcpStream::connect((address, target.port)).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = http::Request::get(PROBE_PATH).header(http::header::HOST, &target.host);
    let request = request.header(http::header::CONNECTION, "close").body(Empty::<Bytes>::new());
    // The answer is dropped with its body: nobody reads that, and the connection would wait for it.
    let asked = async move {
        let answer = sender.send_request(request.ok()?).await.ok()?;
        let location = answer.headers().get(http::header::LOCATION);
        Some(location.and_then(|it| mark_of(it.to_str().ok()?)).unwrap_or(0))
    };
    // The connection's end may be seen before the answer.
    futures::join!(asked, connection).0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(mark: u64, answer: Answer) -> Told {
        Told { gateway: "g".into(), mark, answer }
    }

    fn two_that_wait() -> (Probes, u64) {
        let mut probes = Probes::default();
        assert_eq!(probes.open("g", 1_000), 1_000);
        assert_eq!(probes.next_mark("g", 1_001), None, "nothing waits");
        probes.accepted("g", "a", 1);
        probes.accepted("g", "b", 7);
        let mark = probes.next_mark("g", 1_000).unwrap();
        assert!(mark > 1_000, "later than the first, whatever the clock says");
        probes.asking("g", CancellationToken::new(), CancellationToken::new());
        (probes, mark)
    }

    #[test]
    fn what_was_accepted_waits_for_the_mark_after_it() {
        let (mut probes, mark) = two_that_wait();
        assert_eq!(probes.serving("g", "a", 1), Serving::Asked);
        assert_eq!(probes.serving("g", "a", 2), Serving::Yes, "that is another revision");
        // Accepted after the mark was written: it waits for the next one.
        probes.accepted("g", "c", 1);
        assert_eq!(probes.next_mark("g", 2_000), None, "one at a time");
        let mut sets = probes.told(&told(mark, Answer::Served));
        sets.sort();
        assert_eq!(sets, ["a", "b"]);
        assert_eq!(probes.serving("g", "a", 1), Serving::Yes);
        assert_eq!(probes.serving("g", "c", 1), Serving::Asked);
        assert_eq!(probes.next_mark("g", 2_000), Some(2_000));
    }

    #[test]
    fn proxies_that_are_late_are_told_of_and_asked_further() {
        let (mut probes, mark) = two_that_wait();
        assert_eq!(probes.told(&told(mark, Answer::Late)).len(), 2);
        assert_eq!(probes.serving("g", "b", 7), Serving::No);
        // What comes now is asked for with a later mark, which the others are served with, too.
        probes.accepted("g", "c", 1);
        let next = probes.next_mark("g", mark).unwrap();
        probes.asking("g", CancellationToken::new(), CancellationToken::new());
        assert!(probes.told(&told(mark, Answer::Served)).is_empty(), "that question has ended");
        assert_eq!(probes.told(&told(next, Answer::Served)).len(), 3);
        assert_eq!(probes.serving("g", "b", 7), Serving::Yes);
    }

    #[test]
    fn a_gateway_that_was_edited_is_asked_again() {
        let (mut probes, mark) = two_that_wait();
        assert_eq!(probes.open("g", 9_000), mark);
        assert!(probes.told(&told(mark, Answer::Served)).is_empty(), "of its former listeners");
        assert_eq!(probes.serving("g", "a", 1), Serving::Asked);
        assert_eq!(probes.next_mark("g", 9_000), Some(9_000));
    }

    #[test]
    fn proxies_can_be_late_only_with_the_mark_that_was_asked_for_last() {
        let (mut probes, mark) = two_that_wait();
        let written = CancellationToken::new();
        probes.asking("g", CancellationToken::new(), written.clone());
        probes.written("g", mark - 1);
        assert!(!written.is_cancelled(), "the controller took a former one");
        probes.written("g", mark);
        assert!(written.is_cancelled());
    }

    #[test]
    fn where_nobody_answers_conditions_alone_count() {
        let (mut probes, mark) = two_that_wait();
        assert_eq!(probes.told(&told(mark, Answer::Unreached)).len(), 2);
        assert_eq!(probes.serving("g", "a", 1), Serving::Yes);
        assert_eq!(probes.serving("other", "a", 1), Serving::Yes);
        let (mut probes, mark) = two_that_wait();
        assert_eq!(probes.told(&told(mark, Answer::Unwritten)).len(), 2);
        assert_eq!(probes.serving("g", "a", 1), Serving::Yes, "as where nobody can be asked");
    }

    #[test]
    fn what_proxies_do_not_have_is_not_served_because_a_later_mark_cannot_be_written() {
        let (mut probes, mark) = two_that_wait();
        probes.told(&told(mark, Answer::Late));
        probes.accepted("g", "c", 1);
        let next = probes.next_mark("g", mark).unwrap();
        probes.asking("g", CancellationToken::new(), CancellationToken::new());
        assert_eq!(probes.serving("g", "a", 1), Serving::No, "while it is asked further");
        assert_eq!(probes.told(&told(next, Answer::Unwritten)).len(), 3);
        assert_eq!(probes.serving("g", "c", 1), Serving::Yes);
        assert_eq!(probes.serving("g", "a", 1), Serving::No);
        let again = probes.next_mark("g", next).unwrap();
        assert_eq!(probes.told(&told(again, Answer::Served)).len(), 2);
        assert_eq!(probes.serving("g", "a", 1), Serving::Yes);
    }
}
