//! The fuzzers' corpora, replayed: what a fuzzer found once is a file there, and stays mended.
#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::path::Path;

use imp_bench::fuzz;

/// More would be slow to clone and slow to replay.
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
