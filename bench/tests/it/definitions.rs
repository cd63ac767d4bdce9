//! Real API definitions, published whole through the REST API: each path reaches its own route.

use anyhow::Result;
use imp_bench::edge::Connection;
use imp_bench::routes::{definition, host_of, service};
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack};

use crate::alone::alone;

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_real_apis_are_published_whole_and_every_path_is_served() -> Result<()> {
    let _turn = alone().await;
    let stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let mut calls = 0;
    for (name, least) in [("petstore", 13), ("twilio", 116), ("kubernetes", 520), ("github", 900)] {
        let paths = definition(name)?;
        assert!(paths.len() >= least, "{name}: {} paths", paths.len());
        let service_id = provider.service(&service(&stack, name, paths.iter().enumerate())).await?;
        let product = provider.product(name, &[service_id]).await?;
        let host = format!("{name}.example.com");
        let publish = provider.publish(&product, &host, "none").await?;
        stack.publish_reaches(&publish, "active", PATIENCE).await?;
        let mut caller = Connection::open(provider.address()).await?;
        for (place, operation) in paths.iter().enumerate() {
            // The answer to HEAD has no body with the route's name.
            for method in operation.methods.iter().filter(|method| *method != "HEAD") {
                let call = operation.call();
                let answer = caller.send(method, &host, &call, &[("content-length", "0")]).await?;
                assert_eq!(answer.status, 200, "{name}: {method} {call}");
                let seen = answer.json()["headers"]["host"].clone();
                assert_eq!(seen, host_of(place), "{name}: {method} {call} is {}", operation.path);
                calls += 1;
            }
        }
    }
    assert!(calls > 2_000, "{calls}");
    Ok(())
}
