//! Which way the publishes with `delivery: auto` of a gateway go: to its Envoys while one is connected, by Gateway API
//! too when none has been for a while, and back when one is. Pure: time is a parameter.
//!
//! ```text
//! Direct <-> Grace -> GatewayApi <-> Returning -> Direct
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A time: since the agent's start, and as Unix milliseconds for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) elapsed: Duration,
    pub(super) unix_ms: i64,
}

/// Where a gateway stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// To Envoys, of which one is connected.
    Direct,
    /// To Envoys, although none has been connected since then.
    Grace(Now),
    /// By Gateway API, too, since then: no Envoy is connected.
    GatewayApi(Now),
    /// By both: an Envoy is connected again since then. A publish leaves Gateway API when the Envoy has it.
    Returning(Now),
}

/// The gateways that have Envoys of ours, or should.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    /// How long no Envoy must have been connected; `None`: there is no fallback.
    after: Option<Duration>,
    gateways: BTreeMap<String, Path>,
}

impl Fallback {
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self { after, gateways: BTreeMap::new() }
    }

    pub(super) fn is_on(&self) -> bool {
        self.after.is_some()
    }

    /// A gateway that was delivered by Gateway API before a restart still is.
    pub(super) fn restore(&mut self, gateway: &str, unix_ms: i64) {
        let since = Now { elapsed: Duration::ZERO, unix_ms };
        self.gateways.insert(gateway.to_owned(), Path::GatewayApi(since));
    }

    pub(super) fn forget(&mut self, gateway: &str) {
        self.gateways.remove(gateway);
    }

    /// Advances a gateway. `is_empty`: no publish of it is left on Gateway API by fallback. The grace of one that is
    /// new begins now. Returns where it stands, if that has changed.
    pub(super) fn step(
        &mut self,
        gateway: &str,
        is_connected: bool,
        is_empty: bool,
        now: Now,
    ) -> Option<Path> {
        let after = self.after?;
        let Some(path) = self.gateways.get_mut(gateway) else {
            let path = if is_connected { Path::Direct } else { Path::Grace(now) };
            self.gateways.insert(gateway.to_owned(), path);
            return None;
        };
        let next = match (*path, is_connected) {
            (Path::Direct, false) => Path::Grace(now),
            (Path::Grace(_), true) => Path::Direct,
            (Path::Grace(since), false) if now.since(since) >= after => Path::GatewayApi(now),
            (Path::GatewayApi(_), true) => Path::Returning(now),
            // It was not back: no grace again.
            (Path::Returning(_), false) => Path::GatewayApi(now),
            (Path::Returning(_), true) if is_empty => Path::Direct,
            (same, _) => same,
        };
        (std::mem::replace(path, next) != next).then_some(next)
    }

    pub(super) fn path(&self, gateway: &str) -> Option<Path> {
        self.gateways.get(gateway).copied()
    }

    /// The gateways that are not among these.
    pub(super) fn others(&self, known: &BTreeSet<String>) -> Vec<String> {
        self.gateways.keys().filter(|gateway| !known.contains(*gateway)).cloned().collect()
    }

    /// How many are delivered by Gateway API, too.
    pub(super) fn fallen(&self) -> usize {
        let is_fallen = |path: &&Path| matches!(path, Path::GatewayApi(_) | Path::Returning(_));
        self.gateways.values().filter(is_fallen).count()
    }

    /// The gateways whose publishes may leave Gateway API, and whether they may although it serves them: an Envoy has
    /// been connected for as long as none must have been before. So one that comes and goes moves nothing.
    pub(super) fn returning(&self, now: Now) -> Vec<(String, bool)> {
        let after = self.after.unwrap_or_default();
        let returning = |(gateway, path): (&String, &Path)| match path {
            Path::Returning(since) => Some((gateway.clone(), now.since(*since) >= after)),
            Path::Direct | Path::Grace(_) | Path::GatewayApi(_) => None,
        };
        self.gateways.iter().filter_map(returning).collect()
    }
}

impl Now {
    fn since(self, earlier: Self) -> Duration {
        self.elapsed.saturating_sub(earlier.elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(30);

    fn at(second: u64) -> Now {
        let unix_ms = i64::try_from(second).unwrap() * 1_000;
        Now { elapsed: Duration::from_secs(second), unix_ms }
    }

    fn started() -> Fallback {
        let mut fallback = Fallback::new(Some(AFTER));
        assert_eq!(fallback.step("g", false, true, at(5)), None);
        fallback
    }

    fn fallen() -> Fallback {
        let mut fallback = started();
        assert_eq!(fallback.step("g", false, true, at(35)), Some(Path::GatewayApi(at(35))));
        fallback
    }

    #[test]
    fn a_gateway_falls_back_when_no_envoy_was_there_for_the_whole_grace() {
        let mut fallback = started();
        assert_eq!(fallback.step("g", false, true, at(34)), None);
        assert_eq!(fallback.fallen(), 0);
        // An Envoy that connects for a moment starts the grace again.
        assert_eq!(fallback.step("g", true, true, at(34)), Some(Path::Direct));
        assert_eq!(fallback.step("g", false, true, at(35)), Some(Path::Grace(at(35))));
        assert_eq!(fallback.step("g", false, true, at(64)), None);
        assert_eq!(fallback.step("g", false, true, at(65)), Some(Path::GatewayApi(at(65))));
        assert_eq!(fallback.step("g", false, false, at(1_000)), None, "and stays");
        assert_eq!(fallback.fallen(), 1);
    }

    #[test]
    fn gateways_fall_back_each_for_itself_and_the_grace_of_a_new_one_begins_with_it() {
        let mut fallback = fallen();
        assert_eq!(fallback.step("other", true, true, at(35)), None);
        assert_eq!(fallback.path("other"), Some(Path::Direct));
        assert_eq!(fallback.step("new", false, true, at(40)), None);
        assert_eq!(fallback.step("new", false, true, at(69)), None);
        assert_eq!(fallback.step("new", false, true, at(70)), Some(Path::GatewayApi(at(70))));
        fallback.forget("new");
        assert_eq!(fallback.step("new", false, true, at(80)), None, "it begins anew");
    }

    #[test]
    fn it_returns_when_an_envoy_has_stayed_and_nothing_is_left_behind() {
        let mut fallback = fallen();
        assert_eq!(fallback.returning(at(40)), []);
        assert_eq!(fallback.step("g", true, false, at(40)), Some(Path::Returning(at(40))));
        assert_eq!(fallback.returning(at(69)), [("g".to_owned(), false)]);
        assert_eq!(fallback.returning(at(70)), [("g".to_owned(), true)]);
        assert_eq!(fallback.step("g", true, false, at(70)), None, "one has not been acknowledged");
        assert_eq!(fallback.fallen(), 1);
        assert_eq!(fallback.step("g", true, true, at(71)), Some(Path::Direct));
        assert_eq!(fallback.fallen(), 0);
        assert_eq!(fallback.step("g", false, true, at(72)), Some(Path::Grace(at(72))));
    }

    #[test]
    fn an_envoy_that_comes_and_goes_moves_nothing() {
        let mut fallback = fallen();
        for second in [100, 120, 140] {
            let returning = fallback.step("g", true, false, at(second));
            assert_eq!(returning, Some(Path::Returning(at(second))));
            assert_eq!(fallback.returning(at(second + 10)), [("g".to_owned(), false)]);
            let gone = fallback.step("g", false, false, at(second + 10));
            assert_eq!(gone, Some(Path::GatewayApi(at(second + 10))), "without another grace");
        }
    }

    #[test]
    fn what_had_fallen_back_before_a_restart_still_has() {
        let mut fallback = Fallback::new(Some(AFTER));
        fallback.restore("g", 7);
        assert!(matches!(fallback.path("g"), Some(Path::GatewayApi(Now { unix_ms: 7, .. }))));
        assert_eq!(fallback.step("g", false, false, at(0)), None);
        assert_eq!(fallback.step("g", true, false, at(1)), Some(Path::Returning(at(1))));
    }

    #[test]
    fn without_a_fallback_nothing_ever_moves() {
        let mut fallback = Fallback::new(None);
        for second in [0, 1_000] {
            assert_eq!(fallback.step("g", false, true, at(second)), None);
        }
        assert_eq!((fallback.path("g"), fallback.fallen()), (None, 0));
    }
}
