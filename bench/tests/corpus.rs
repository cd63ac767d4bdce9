//! The fuzzers' corpora, replayed: each file is a past finding, which must stay fixed.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::path::Path;

use imp_bench::fuzz;

/// A larger corpus would be slow to clone and to replay.
const CORPUS_BYTES: usize = 200 << 10;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn replay(target: &str) {
    let directory = root().join("corpus").join(target);
    let (mut replayed, mut total) = (0, 0);
    for file in std::fs::read_dir(&directory).expect("a corpus") {
        let bytes = std::fs::read(file.expect("a file").path()).expect("bytes");
        fuzz::run(target, &bytes);
        (replayed, total) = (replayed + 1, total + bytes.len());
    }
    assert!(replayed >= 5, "the corpus of {target} has {replayed} files");
    assert!(total <= CORPUS_BYTES, "the corpus of {target} has {total} bytes: minimise it");
}

macro_rules! replays {
    ($($test:ident: $target:literal),* $(,)?) => {
        $(#[test] fn $test() { replay($target); })*

        #[test]
        fn every_target_is_replayed_and_has_its_fuzzer() {
            let replayed = [$($target),*];
            let targets: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(targets, replayed);
            let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
            for target in targets {
                let source = root().join(format!("fuzz_targets/{target}.rs"));
                assert!(source.is_file(), "{} is missing", source.display());
                assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}: no [[bin]]");
            }
        }
    };
}

replays! {
    no_rest_body_panics_and_what_is_accepted_is_accepted_again: "rest_bodies",
    no_page_token_opens_another_list: "page_tokens",
    every_expression_is_judged: "regexes",
    the_agent_takes_every_spec_that_the_api_accepts: "contract",
    the_agent_takes_every_text_that_the_api_accepts: "grammar",
    no_registration_without_a_good_token: "registration",
    no_forged_jwt_is_taken: "agent_jwt",
    no_response_of_the_delta_stream_panics_the_agent: "delta_stream",
    nobody_passes_without_the_key: "ext_authz",
    no_damaged_state_panics_the_agent: "last_known_good",
    no_damaged_identity_panics_the_agent: "identity_file",
}

/// Pieces of hosts, paths and header names, valid and invalid, in every spelling.
const PIECES: [&str; 32] = [
    "shop",
    "Shop",
    "EXAMPLE",
    "org",
    "a",
    "0",
    "127",
    "xn--bcher-kva",
    "XN--a",
    ".",
    ".",
    ".",
    "-",
    "_",
    "*",
    ":",
    "80",
    "/",
    "/",
    "{id}",
    "{",
    "~",
    "%2F",
    "%%",
    "x-",
    "Host",
    " ",
    "[::1]",
    "\u{fc}",
    "0x7f",
    "..",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// xorshift64*: the same texts in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0) % most
    }

    fn text(&mut self) -> String {
        (0..=self.below(7)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }
}

#[test]
fn the_agent_takes_every_spelling_that_the_api_accepts() {
    let mut dice = Dice(26);
    let mut hostnames = 0;
    for turn in 0..60_000_usize {
        let text = dice.text();
        hostnames += usize::from(imp_core::grammar::hostname(&text).is_ok());
        let kind = u8::try_from(turn % 10).expect("a digit");
        fuzz::run("grammar", &[&[kind], text.as_bytes()].concat());
    }
    assert!(hostnames > 1_000, "{hostnames} of the texts are hostnames: that proves little");
}

#[test]
fn the_agent_takes_every_gateway_that_the_api_accepts() {
    use imp_core::gateway::GatewaySpec;
    let mut dice = Dice(63);
    let mut accepted = 0;
    for _ in 0..10_000 {
        let listener = |dice: &mut Dice| {
            let name = if dice.below(4) > 0 { format!("l{}", dice.below(9)) } else { dice.text() };
            let host = if dice.below(4) > 0 { "Shop.Example.".to_owned() } else { dice.text() };
            let port = [0, 1, 80, 8080, 65_535, 65_536][dice.below(6)];
            let protocol = ["HTTP", "HTTP", "HTTP", "HTTPS", "TCP"][dice.below(5)];
            serde_json::json!({ "name": name, "port": port, "protocol": protocol, "hostname": host })
        };
        let listeners: Vec<_> = (0..dice.below(4)).map(|_| listener(&mut dice)).collect();
        let body = serde_json::json!({ "name": "g", "listeners": listeners });
        let spec = serde_json::from_value::<GatewaySpec>(body.clone());
        let is_good = |spec: GatewaySpec| {
            let mut faults = imp_core::Violations::new();
            imp_core::Check::check(&spec, &mut faults);
            faults.into_result().is_ok()
        };
        accepted += usize::from(spec.is_ok_and(is_good));
        // The first byte selects a gateway.
        fuzz::run("contract", &[&[1], body.to_string().as_bytes()].concat());
    }
    assert!(accepted > 500, "{accepted} of the gateways are good: that proves little");
}
