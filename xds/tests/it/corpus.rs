//! The fuzzers' corpus, replayed, with some random bytes.

use std::path::Path;

use imp_xds::testing::fuzz;
use imp_xds::wire::{DeltaDiscoveryRequest, DiscoveryRequest};
use proptest::prelude::*;
use prost::Message as _;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&directory).expect("a corpus");
    let mut replayed = 0;
    for file in files {
        run(&std::fs::read(file.expect("a file").path()).expect("bytes"));
        replayed += 1;
    }
    assert!(replayed > 0, "the corpus of {target} is empty");
}

#[test]
fn the_corpus_of_interleavings_passes() {
    replay("interleavings", fuzz::interleaving);
}

#[test]
fn the_corpus_of_requests_passes() {
    replay("requests", fuzz::requests);
}

/// Decodable requests, with existing and unknown names and types.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let word =
        || prop::sample::select(vec!["", "*", "a", "b", "c", "x", "x/y", "z", "z/alias", "1"]);
    let words = || prop::collection::vec(word().prop_map(str::to_owned), 0..4);
    let request = (word(), words(), words(), words(), word(), any::<bool>());
    let encode = |list: bool| {
        move |(type_url, plus, minus, held, nonce, refuses): (
            &str,
            Vec<_>,
            Vec<_>,
            Vec<String>,
            &str,
            bool,
        )| {
            let error_detail = refuses.then(imp_xds::wire::Status::default);
            let (type_url, response_nonce) = (type_url.to_owned(), nonce.to_owned());
            let message = if list {
                let (resource_names, node) = (plus, None);
                DiscoveryRequest {
                    type_url,
                    response_nonce,
                    resource_names,
                    error_detail,
                    node,
                    version_info: String::new(),
                }
                .encode_to_vec()
            } else {
                let held = held.into_iter().map(|name| (name, "1".to_owned()));
                DeltaDiscoveryRequest {
                    type_url,
                    response_nonce,
                    error_detail,
                    resource_names_subscribe: plus,
                    resource_names_unsubscribe: minus,
                    initial_resource_versions: held.collect(),
                    node: None,
                }
                .encode_to_vec()
            };
            [vec![u8::try_from(message.len()).unwrap_or(u8::MAX)], message].concat()
        }
    };
    let of = |list: bool| {
        prop::collection::vec(request.clone().prop_map(encode(list)), 0..20)
            .prop_map(move |messages| [vec![u8::from(list)], messages.concat()].concat())
    };
    prop_oneof![of(false), of(true)]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_order_of_requests_panics_or_floods(bytes in requests()) {
        fuzz::requests(&bytes);
    }

    #[test]
    fn any_bytes_are_an_order_of_events(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz::interleaving(&bytes);
    }
}
