//! Every order of events, against the model of `testing`.

use imp_xds::Batching;
use imp_xds::stream::Variant;
use imp_xds::testing::model::{Model, Op};
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    let (t, n) = (0..2_usize, 0..5_u8);
    prop_oneof![
        4 => (t.clone(), n.clone(), 0..8_u8).prop_map(|(t, n, v)| Op::Set(t, n, v)),
        2 => (t.clone(), n.clone()).prop_map(|(t, n)| Op::Remove(t, n)),
        1 => (t.clone(), n.clone()).prop_map(|(t, n)| Op::Retain(t, n)),
        2 => (t.clone(), n.clone()).prop_map(|(t, n)| Op::Subscribe(t, n)),
        1 => t.clone().prop_map(Op::SubscribeAll),
        2 => (t.clone(), n).prop_map(|(t, n)| Op::Unsubscribe(t, n)),
        1 => t.prop_map(Op::UnsubscribeAll),
        6 => Just(Op::Request),
        6 => Just(Op::Response),
        1 => Just(Op::Reconnect),
        1 => (0..3_000_u16).prop_map(Op::Wait),
    ]
}

fn batching() -> impl Strategy<Value = Batching> {
    let few = Batching::UpTo { unproven: 2, unproven_bytes: 350, proven: 3, proven_bytes: 250 };
    prop::sample::select(vec![Batching::All, Batching::Single, few])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_the_end_the_client_holds_the_last_snapshot(
        ops in prop::collection::vec(op(), 0..120),
        batching in batching(),
        requiring: bool,
        whole: bool,
        debounced: bool,
        split: bool,
    ) {
        let model = Model::new(Variant::Delta, batching, whole);
        let model = if requiring { model.requiring() } else { model };
        let model = if debounced { model.debounced() } else { model };
        let mut model = if split { model.split(250) } else { model };
        for op in ops {
            model.step(op);
        }
        model.settle();
        model.check();
    }

    #[test]
    fn in_the_end_a_client_of_the_state_of_the_world_holds_it(
        ops in prop::collection::vec(op(), 0..120),
        batching in batching(),
        requiring: bool,
        whole: bool,
        debounced: bool,
        split: bool,
    ) {
        let model = Model::new(Variant::StateOfTheWorld, batching, whole);
        let model = if requiring { model.requiring() } else { model };
        let model = if debounced { model.debounced() } else { model };
        let mut model = if split { model.split(250) } else { model };
        for op in ops {
            model.step(op);
        }
        model.settle();
        model.check();
    }
}
