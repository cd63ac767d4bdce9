//! What a connection is doing and since when, to find peers that take too long.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::{Body, Frame, SizeHint};

use super::Limits;

/// Which limit a connection has exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No first request, or an incomplete head.
    Head,
    /// No request for too long.
    Idle,
    /// The peer reads nothing of its answer.
    Write,
}

/// Milliseconds of a monotonic clock; 0 stands for "never".
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

/// Shared by a connection's transport, its requests and the task that watches it.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests between their head and the end of their answer.
    busy: AtomicUsize,
    /// When the last request ended, or the connection began.
    idle_since: AtomicU64,
    /// When the first byte of a still incomplete request arrived.
    head_since: AtomicU64,
    /// When a write first blocked.
    blocked_since: AtomicU64,
    /// When a write last succeeded.
    wrote_at: AtomicU64,
    /// Requests whose answer has begun.
    answering: AtomicUsize,
    first_request: AtomicBool,
    /// Whether the peer was authenticated at least once.
    welcome: AtomicBool,
    http2: AtomicBool,
    closing: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            busy: AtomicUsize::new(0),
            idle_since: AtomicU64::new(now()),
            head_since: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            wrote_at: AtomicU64::new(now()),
            answering: AtomicUsize::new(0),
            first_request: AtomicBool::new(false),
            welcome: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        })
    }

    /// Records that a request's head is complete.
    pub(super) fn begin(self: &Arc<Self>) -> Request {
        self.busy.fetch_add(1, Relaxed);
        self.first_request.store(true, Relaxed);
        self.head_since.store(0, Relaxed);
        Request { activity: self.clone(), answers: false }
    }

    /// Records that the peer sent something; `start` is the beginning of the connection's first
    /// bytes.
    pub(super) fn read(&self, start: Option<&[u8]>) {
        if start.is_some_and(|start| start.starts_with(b"PRI")) {
            self.http2.store(true, Relaxed);
        }
        if self.busy.load(Relaxed) == 0 {
            let _known = self.head_since.compare_exchange(0, now(), Relaxed, Relaxed);
        }
    }

    /// Records whether the peer took something.
    pub(super) fn wrote(&self, something: bool) {
        if something {
            self.wrote_at.store(now(), Relaxed);
            self.blocked_since.store(0, Relaxed);
        } else {
            let _known = self.blocked_since.compare_exchange(0, now(), Relaxed, Relaxed);
        }
    }

    /// Records that the peer was authenticated.
    pub(super) fn welcome(&self) {
        self.welcome.store(true, Relaxed);
    }

    /// The lowest rank is closed first: unknown peers before authenticated ones, then those idle
    /// longest. `None` if it is busy.
    pub(super) fn rank(&self) -> Option<(bool, u64)> {
        let rank = || (self.welcome.load(Relaxed), self.idle_since.load(Relaxed));
        (self.busy.load(Relaxed) == 0).then(rank)
    }

    pub(super) fn close(&self) {
        self.closing.store(true, Relaxed);
        self.idle_since.store(now(), Relaxed);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    /// Resolves when the connection exceeds a limit.
    pub(super) async fn overdue(&self, limits: &Limits) -> Overdue {
        let shortest = limits.head.min(limits.write).min(limits.idle.unwrap_or(limits.head));
        let tick = (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            tokio::time::sleep(tick).await;
            if let Some(overdue) = self.judge(limits, now()) {
                return overdue;
            }
        }
    }

    fn judge(&self, limits: &Limits, now: u64) -> Option<Overdue> {
        let longer = |since: u64, limit: Duration| {
            since != 0 && u128::from(now.saturating_sub(since)) > limit.as_millis()
        };
        let blocked = self.blocked_since.load(Relaxed);
        let (busy, answering) = (self.busy.load(Relaxed), self.answering.load(Relaxed));
        let stuck = limits.finite_answers
            && answering > 0
            && longer(self.wrote_at.load(Relaxed), limits.write);
        if stuck || longer(blocked, limits.write) {
            return Some(Overdue::Write);
        }
        if busy > 0 {
            return None;
        }
        let since = self.idle_since.load(Relaxed);
        if !self.first_request.load(Relaxed) && longer(since, limits.head) {
            return Some(Overdue::Head);
        }
        // Between requests HTTP/2 sends frames of the connection, which do not begin a head.
        if !self.http2.load(Relaxed) && longer(self.head_since.load(Relaxed), limits.head) {
            return Some(Overdue::Head);
        }
        let idle = if self.is_closing() { Some(limits.head) } else { limits.idle };
        idle.is_some_and(|idle| longer(since, idle)).then_some(Overdue::Idle)
    }
}

/// A request in service; dropping it ends it.
#[derive(Debug)]
pub(super) struct Request {
    activity: Arc<Activity>,
    answers: bool,
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.answers {
            self.activity.answering.fetch_sub(1, Relaxed);
        }
        self.activity.idle_since.store(now(), Relaxed);
        self.activity.busy.fetch_sub(1, Relaxed);
    }
}

/// An answer's body, which keeps its request in service until the last byte was written.
#[derive(Debug)]
pub(super) struct Served<B> {
    body: Pin<Box<B>>,
    _request: Request,
}

impl<B> Served<B> {
    pub(super) fn new(body: B, mut request: Request) -> Self {
        request.answers = true;
        request.activity.answering.fetch_add(1, Relaxed);
        // Earlier writes were for other requests.
        request.activity.wrote_at.store(now(), Relaxed);
        Self { body: Box::pin(body), _request: request }
    }
}

impl<B: Body> Body for Served<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.body.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
