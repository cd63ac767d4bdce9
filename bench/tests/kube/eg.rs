//! The benchmark beside Envoy Gateway stays alive: everything once, with few objects.

use anyhow::Result;
use imp_bench::eg::{Plan, figures, measure};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn both_sides_are_measured_and_no_answer_of_ours_is_wrong() -> Result<()> {
    let measured = measure(&Plan::short(), |step| println!("{step}")).await?;
    assert!(measured.faults().is_empty(), "{:?}", measured.faults());
    let figures = figures(&measured);
    let broken: Vec<_> = figures.iter().filter(|it| !it.value.is_finite()).collect();
    assert!(broken.is_empty(), "{broken:?}");
    for bad in measured.shapes.iter().map(|shape| &shape.bad) {
        assert_eq!((bad.ours_hurt, bad.refused_with), (0, 422), "{bad:?}");
    }
    Ok(())
}
