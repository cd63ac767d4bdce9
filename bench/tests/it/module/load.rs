//! Calls without a pause, while something happens to those who decide about them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use imp_bench::edge::Connection;
use tokio::task::JoinHandle;

use super::{KEYED, PUBLIC};

/// Calls of several callers, on connections that stay.
pub(super) struct Load {
    over: Arc<AtomicBool>,
    made: Arc<Counts>,
    callers: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    passed: AtomicU64,
    cut: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// What became of them.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) answered: u64,
    /// Those with the key that were answered 200.
    pub(super) passed: u64,
    /// Those with the key whose connection broke before the answer.
    pub(super) cut: u64,
    /// Answers that are not as they should be; the first ones.
    pub(super) wrong: Vec<String>,
}

/// Host, key, status.
type Case = (&'static str, String, u16);

impl Load {
    pub(super) fn start(at: SocketAddr, key: &str) -> Self {
        let cases: [Case; 4] = [
            (KEYED, key.to_owned(), 200),
            (KEYED, "imp_wrong".to_owned(), 401),
            (KEYED, key.to_owned(), 200),
            (PUBLIC, String::new(), 200),
        ];
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let call = |case| tokio::spawn(call(at, case, over.clone(), made.clone()));
        let callers = cases.into_iter().map(call).collect();
        Self { over, made, callers }
    }

    pub(super) fn answered(&self) -> u64 {
        self.made.answered.load(Ordering::Relaxed)
    }

    pub(super) async fn end(self) -> anyhow::Result<Made> {
        self.over.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.await?;
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { answered, passed, cut, wrong } = &*self.made;
        let wrong = wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Made { answered: of(answered), passed: of(passed), cut: of(cut), wrong })
    }
}

async fn call(at: SocketAddr, case: Case, over: Arc<AtomicBool>, made: Arc<Counts>) {
    let (host, key, status) = case;
    let counts = status == 200 && host == KEYED;
    let headers = [("x-api-key", key.as_str())];
    let mut open = None;
    while !over.load(Ordering::Relaxed) {
        let connection = match &mut open {
            Some(connection) => connection,
            // Nobody listens between two Envoys.
            none => match Connection::open(at).await {
                Ok(connection) => none.insert(connection),
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            },
        };
        let answer = connection.get(host, "/pay", &headers).await;
        let Ok(answer) = answer else {
            made.cut.fetch_add(u64::from(counts), Ordering::Relaxed);
            open = None;
            continue;
        };
        if connection.is_closing() {
            open = None;
        }
        made.answered.fetch_add(1, Ordering::Relaxed);
        if answer.status != status {
            let mut wrong = made.wrong.lock().unwrap_or_else(PoisonError::into_inner);
            if wrong.len() < 20 {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                wrong.push(format!("{host} {} instead of {status}: {body}", answer.status));
            }
        } else if counts {
            made.passed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
