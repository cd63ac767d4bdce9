//! Refused requests: all are counted, some are logged. Refusals change nothing, so they have no
//! audit row, and a flood of them must not fill the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use imp_core::ApiTokenId;
use tokio::time::Instant;

/// Log lines per second, over all callers.
const LINES: u32 = 10;

static LOG: Mutex<Option<Window>> = Mutex::new(None);

/// A refused request.
pub struct Refusal<'a> {
    /// 401 or 403.
    pub status: u16,
    /// The caller's token, if it was valid.
    pub token: Option<ApiTokenId>,
    pub method: &'a str,
    pub path: &'a str,
    pub request_id: &'a str,
}

/// Counts the refusal and logs it unless there were too many in this second.
pub fn note(refusal: &Refusal<'_>) {
    let Refusal { status, token, method, path, request_id } = *refusal;
    metrics::counter!("imp_rest_refused_total", "status" => status.to_string()).increment(1);
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let Some(unlogged) = log.get_or_insert_with(|| Window::new(now)).admit(now) else { return };
    drop(log);
    let token = token.map(|id| id.to_string());
    tracing::warn!(status, token, method, path, request_id, unlogged, "refused");
}

/// One second of lines.
struct Window {
    since: Instant,
    lines: u32,
    /// Refusals not logged since the last line.
    unlogged: u64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Self { since: now, lines: 0, unlogged: 0 }
    }

    /// Returns whether to log, and how many were left out since the last line.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES {
            self.unlogged += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_ten_lines_a_second_and_its_size_is_told() {
        let start = Instant::now();
        let mut window = Window::new(start);
        let admitted = (0..5_000).filter(|_| window.admit(start).is_some()).count();
        assert_eq!(admitted, 10);
        let later = start + Duration::from_secs(1);
        assert_eq!(window.admit(later), Some(4_990));
        assert_eq!(window.admit(later), Some(0));
    }
}
