//! The thread that listens to the agent.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chrono::DateTime;

use super::message::{Applied, FromAgent, FromModule, Hello, PROTOCOL, Said, Told};
use super::{Applier, frame};
use crate::{envoy, faults, state};

/// How long the agent may say nothing; it pings more often.
const SILENCE: Duration = Duration::from_secs(10);

/// The first and the longest pause before the agent is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How often unused limits are dropped.
const EVICTION: Duration = Duration::from_secs(60);

/// Starts it. It runs until the process ends.
pub(crate) fn start(socket: PathBuf, applier: Applier) -> io::Result<()> {
    let run = move || Client { socket, applier, evicted: Instant::now() }.run();
    thread::Builder::new().name("imp-feed".to_owned()).spawn(run).map(drop)
}

struct Client {
    socket: PathBuf,
    applier: Applier,
    evicted: Instant,
}

impl Client {
    fn run(mut self) {
        let mut pause = PAUSES.0;
        let mut was_said = false;
        loop {
            let before = self.applier.holds().1;
            // After a fault, everything is asked for again.
            let ended = faults::guard(None, || Some(self.listen()));
            match ended {
                Some(Ok(())) => {}
                Some(Err(error)) if !was_said => {
                    envoy::warn(&format!("no word from the agent ({error}); decisions go on"));
                    was_said = true;
                }
                Some(Err(_)) => {}
                None => {
                    faults::count(self.applier.state());
                    self.applier = Applier::new(self.applier.state().clone());
                }
            }
            self.applier.abandon();
            self.evict();
            if self.applier.holds().1 != before {
                (pause, was_said) = (PAUSES.0, false);
            }
            thread::park_timeout(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// One connection.
    fn listen(&mut self) -> io::Result<()> {
        let mut writer = UnixStream::connect(Path::new(&self.socket))?;
        writer.set_read_timeout(Some(SILENCE))?;
        writer.set_write_timeout(Some(SILENCE))?;
        let mut reader = BufReader::with_capacity(1 << 18, writer.try_clone()?);
        let (history, version) = self.applier.holds();
        let hello = Hello { protocol: PROTOCOL, history: history.to_owned(), version };
        frame::write(&mut writer, &FromModule::from(Said::Hello(hello)))?;
        loop {
            let message: FromAgent = frame::read(&mut reader)?;
            match message.told {
                Some(Told::Update(update)) => {
                    let applied = self.applier.apply(update).map_err(io::Error::other)?;
                    if let Some(version) = applied {
                        let applied = Said::Applied(Applied { version });
                        frame::write(&mut writer, &FromModule::from(applied))?;
                    }
                }
                Some(Told::Forget(forget)) => {
                    if let Some(before) = DateTime::from_timestamp_millis(forget.before_ms) {
                        self.applier.state().engine.forget_usage(before);
                    }
                }
                Some(Told::Ping(_)) | None => {}
            }
            self.evict();
        }
    }

    fn evict(&mut self) {
        if self.evicted.elapsed() >= EVICTION {
            self.evicted = Instant::now();
            self.applier.state().evict(state::now());
        }
    }
}
