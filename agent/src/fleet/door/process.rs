//! A process on this machine, told apart from a later one with the same number.

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    id: i32,
    /// When it started, in ticks since the machine did.
    started: u64,
}

impl Process {
    /// `None` if it cannot be seen from here.
    pub(super) fn of(id: i32) -> Option<Self> {
        let (_, started) = seen(id)?;
        Some(Self { id, started })
    }

    /// Whether it still runs.
    pub(super) fn lives(self) -> bool {
        seen(self.id).is_some_and(|(ended, started)| !ended && started == self.started)
    }
}

/// Whether it has ended and waits for its parent, and when it started (proc_pid_stat(5)).
fn seen(id: i32) -> Option<(bool, u64)> {
    let line = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name may have spaces and brackets.
    let (_, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    Some((ended, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
impl Process {
    /// A process of a test.
    pub(super) fn numbered(started: u64) -> Self {
        Self { id: 1, started }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_does_not_live_even_if_nobody_has_waited_for_it() {
        let own = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.lives());
        assert!(!Process { started: own.started + 1, ..own }.lives(), "another with its number");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::of(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(process.lives());
        child.kill().unwrap();
        while process.lives() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!process.lives());
        assert_eq!(Process::of(i32::MAX), None);
    }
}
