//! The rest of a call over HTTP/1 that is refused before its body has ended.
//!
//! Envoy answers such a call at once, reads no more, and closes the connection a second later. A
//! caller that writes everything before it reads gets a reset then, and no answer. So the answer
//! waits for the end of the body. Nothing of the body is kept or passed on, and it is read no
//! faster than it comes.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::abi::{body_status, status};
use crate::answer::Refusal;
use crate::envoy::Stream;

/// The largest body that is waited for. One that says that it is larger is answered at once.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// The longest time; a caller that says nothing at all is Envoy's (`stream_idle_timeout`).
pub(crate) const MOST_TIME: Duration = Duration::from_secs(10);

/// How a call ends that does not pass.
#[derive(Debug)]
pub(crate) enum End {
    Refusal(Refusal),
    /// It goes on without a route, and Envoy's own answer says why.
    Nowhere,
}

/// The body of a call, as far as this filter has to do with it.
#[derive(Default)]
pub(crate) struct Upload(Cell<Body>);

#[derive(Debug, Default)]
enum Body {
    /// Goes on as it comes.
    #[default]
    Passes,
    Ends(Box<Ending>),
    /// The call is answered. Whatever still comes goes nowhere.
    Answered,
}

#[derive(Debug)]
struct Ending {
    end: End,
    since: Instant,
    bytes: u64,
}

impl Ending {
    fn is_too_long(&self, now: Instant) -> bool {
        self.bytes > MOST_BYTES || now.duration_since(self.since) >= MOST_TIME
    }
}

impl Upload {
    /// Ends a call of which the headers have come. Returns what the hook for headers says.
    pub(crate) fn end(&self, stream: Stream, end: End, end_of_stream: bool) -> u32 {
        self.close();
        if !end_of_stream && waits_for_its_body(stream) {
            let ending = Ending { end, since: Instant::now(), bytes: 0 };
            self.0.set(Body::Ends(Box::new(ending)));
            return status::STOP;
        }
        match end {
            End::Refusal(refusal) => {
                refusal.send(stream);
                status::STOP
            }
            End::Nowhere => {
                self.0.set(Body::Passes);
                status::CONTINUE
            }
        }
    }

    /// A part of the body. Returns what the hook for it says.
    pub(crate) fn part(&self, stream: Stream, end_of_stream: bool) -> u32 {
        // Envoy may call hooks of the stream again while an answer is sent.
        let mut ending = match self.0.replace(Body::Answered) {
            Body::Passes => {
                self.0.set(Body::Passes);
                return body_status::CONTINUE;
            }
            Body::Answered => return body_status::DISCARD,
            Body::Ends(ending) => ending,
        };
        ending.bytes = ending.bytes.saturating_add(stream.received());
        if !end_of_stream && !ending.is_too_long(Instant::now()) {
            self.0.set(Body::Ends(ending));
            return body_status::DISCARD;
        }
        match ending.end {
            End::Refusal(refusal) => {
                refusal.send(stream);
                body_status::DISCARD
            }
            End::Nowhere => {
                self.0.set(Body::Passes);
                body_status::CONTINUE
            }
        }
    }

    /// The trailers: the body has ended. Returns what the hook for them says.
    pub(crate) fn trailers(&self, stream: Stream) -> u32 {
        match self.part(stream, true) {
            body_status::CONTINUE => status::CONTINUE,
            _ => status::STOP,
        }
    }

    /// Lets nothing more through.
    pub(crate) fn close(&self) {
        self.0.set(Body::Answered);
    }
}

/// Whether the caller is one that may read only after it has written everything, and will soon have.
fn waits_for_its_body(stream: Stream) -> bool {
    let header = |name| stream.request_header(name);
    // HTTP/2 sends answers and bodies independently. A tunnel has no end, and a caller that expects
    // 100 reads before it sends the body.
    let is_http1 = stream.protocol().is_some_and(|it| it.starts_with("HTTP/1."));
    if !is_http1 || header("expect").is_some() || header("upgrade").is_some() {
        return false;
    }
    if header(":method").is_some_and(|method| method == "CONNECT") {
        return false;
    }
    let length = header("content-length").map(|length| length.parse::<u64>());
    length.is_none_or(|length| length.is_ok_and(|bytes| bytes <= MOST_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_bytes_nor_time_are_without_a_bound() {
        let since = Instant::now();
        let is_too_long =
            |bytes, after| Ending { end: End::Nowhere, since, bytes }.is_too_long(since + after);
        let soon = Duration::from_secs(1);
        assert!(!is_too_long(MOST_BYTES, soon));
        assert!(is_too_long(MOST_BYTES + 1, soon));
        assert!(!is_too_long(0, MOST_TIME - soon));
        assert!(is_too_long(0, MOST_TIME));
    }
}
