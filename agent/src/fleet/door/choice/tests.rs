use super::*;

const TESTED: &str = "1.40.0";

/// Envoys of one name, one after the other.
struct Runs {
    choices: Choices,
    start: Instant,
    /// The processes that run.
    alive: Vec<Process>,
}

fn process(number: u64) -> Process {
    Process::numbered(number)
}

impl Runs {
    fn new() -> Self {
        let choices = Choices::new(false, None);
        Self { choices, start: Instant::now(), alive: Vec::new() }
    }

    /// This process comes after so many seconds.
    fn comes(&mut self, number: u64, seconds: u64) -> Choice {
        self.alive.push(process(number));
        let coming =
            Coming { id: "e", version: TESTED, process: Some(process(number)), is_local: true };
        let now = self.start + Duration::from_secs(seconds);
        let choice = self.choices.choose(coming, true, |it| self.alive.contains(&it), now);
        self.choices.opened(number, "e", TESTED);
        choice
    }

    fn ends(&mut self, number: u64) {
        self.alive.retain(|it| *it != process(number));
        self.choices.closed(number);
    }

    fn wrong(&mut self, seconds: u64) -> Vec<StreamId> {
        self.choices.take_wrong(self.start + Duration::from_secs(seconds))
    }
}

#[test]
fn an_envoy_gets_the_module_only_if_it_was_tested_with_it() {
    let mut choices = Choices::new(false, None);
    let mut choose = |version| {
        let coming = Coming { id: "e", version, process: None, is_local: true };
        choices.choose(coming, true, |_| true, Instant::now())
    };
    let is_tested = matrix::is_tested(TESTED, std::env::consts::ARCH);
    assert_eq!(choose(TESTED).is_module, is_tested);
    let other = choose("1.12.0");
    assert_eq!(other, Choice { is_module: false, why: Why::Untested("1.12.0".into()) });
    assert!(other.why.to_string().contains("1.40"), "{}", other.why);
}

#[test]
fn an_envoy_on_another_machine_asks_the_agent_for_good() {
    let mut choices = Choices::new(false, None);
    let coming = Coming { id: "e", version: TESTED, process: None, is_local: false };
    let now = Instant::now();
    assert_eq!(choices.choose(coming, true, |_| true, now).why, Why::Elsewhere);
    assert!(!choices.opened(1, "e", TESTED));
    assert_eq!(choices.take_wrong(now), Vec::<StreamId>::new(), "it has what it should");
}

#[test]
fn without_a_module_or_with_an_altered_one_the_agent_is_asked() {
    let coming = Coming { id: "e", version: TESTED, process: None, is_local: true };
    let choose = |mut choices: Choices, is_intact| {
        choices.choose(coming, is_intact, |_| true, Instant::now()).why.word()
    };
    assert_eq!(choose(Choices::new(false, Some("no file".into())), true), "no_module");
    assert_eq!(choose(Choices::new(true, None), true), "told");
    assert_eq!(choose(Choices::new(false, None), false), "altered");
}

#[test]
fn two_deaths_within_a_minute_are_a_loop_and_it_is_tried_again_later() {
    let mut runs = Runs::new();
    assert!(runs.comes(1, 0).is_module);
    runs.ends(1);
    assert!(runs.comes(2, 10).is_module, "one death is none");
    runs.ends(2);
    assert_eq!(runs.comes(3, 69).why, Why::Crashed);
    assert_eq!(runs.wrong(600), [0; 0]);
    // With ext_authz it may end as it likes.
    runs.ends(3);
    assert_eq!(runs.comes(4, 80).why, Why::Crashed);
    let over = 69 + STAY.as_secs();
    assert_eq!(runs.wrong(over), [4], "it must come for the module");
    assert_eq!(runs.wrong(over), [0; 0], "it is told once");
    assert!(runs.comes(4, over).is_module);
    // Again: twice as long.
    runs.ends(4);
    assert!(runs.comes(5, over + 5).is_module);
    runs.ends(5);
    assert_eq!(runs.comes(6, over + 10).why, Why::Crashed);
    assert_eq!(runs.wrong(over + 10 + STAY.as_secs()), [0; 0]);
    assert_eq!(runs.wrong(over + 10 + 2 * STAY.as_secs()), [6]);
}

#[test]
fn a_new_connection_a_slow_death_and_a_hot_restart_are_no_loop() {
    let mut runs = Runs::new();
    for round in 0..5 {
        assert!(runs.comes(1, round).is_module, "the same process");
    }
    for number in 2..6 {
        assert!(runs.comes(number, 5).is_module, "the one before still runs");
    }
    for number in 6..10 {
        runs.ends(number - 1);
        assert!(runs.comes(number, number * 61).is_module, "one a minute");
    }
}

#[test]
fn who_refuses_it_is_moved_to_the_agent_and_what_the_operator_says_moves_all() {
    let mut runs = Runs::new();
    runs.comes(1, 0);
    assert_eq!(runs.choices.counts(), (1, 0));
    runs.choices.refused(1, "no such symbol", runs.start);
    assert_eq!(runs.wrong(0), [1]);
    assert_eq!(runs.comes(1, 1).why, Why::Refused("no such symbol".into()));
    assert_eq!(runs.choices.counts(), (0, 1));
    let mut runs = Runs::new();
    runs.comes(1, 0);
    runs.choices.asks = true;
    assert_eq!(runs.wrong(0), [1]);
    assert_eq!(runs.comes(1, 0).why, Why::Told);
    runs.choices.asks = false;
    assert_eq!(runs.wrong(0), [1]);
    assert!(runs.comes(1, 0).is_module);
}
