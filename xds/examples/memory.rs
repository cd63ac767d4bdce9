//! Prints the memory of a resource in one set and of the same resource in another one, by the resident
//! memory of this process: `cargo run --release -p imp-xds --example memory`.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use imp_xds::stream::Stream;
use imp_xds::wire::DeltaDiscoveryRequest;
use imp_xds::{Batching, Change, Resource, ResourceSet, ServerConfig, TypeRules};

const TYPE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
const COUNT: usize = 200_000;
/// The bytes of a scope by name.
const CONTENT: usize = 90;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let base = resident()?;
    let first = ResourceSet::new();
    fill(&first, resource);
    let one = resident()?;
    print("a resource in a set, without its content", one - base - COUNT * CONTENT)?;

    let second = ResourceSet::new();
    fill(&second, |index| first.get(&TYPE.into(), &name(index)).unwrap_or_else(|| resource(index)));
    let two = resident()?;
    print("the same resource in another set", two - one)?;

    let stream = synchronised(&first)?;
    print("a resource at a client that has everything", resident()?.saturating_sub(two))?;
    drop(stream);
    Ok(())
}

/// A few at a time, so that little is held for the change itself.
fn fill(set: &ResourceSet, resource: impl Fn(usize) -> Resource) {
    for start in (0..COUNT).step_by(1_000) {
        let mut change = Change::default();
        (start..start + 1_000).for_each(|index| change.upsert(TYPE, resource(index)));
        set.apply(change);
    }
}

fn name(index: usize) -> String {
    format!("{index:020x}")
}

/// Names and versions as long as those of scopes.
fn resource(index: usize) -> Resource {
    let content = Bytes::from(vec![7; CONTENT]);
    Resource::new(name(index), format!("{index:016x}"), content)
}

/// A client that got everything.
fn synchronised(set: &ResourceSet) -> Result<Stream, tonic::Status> {
    let batching = Batching::UpTo {
        unproven: 64,
        unproven_bytes: 1 << 20,
        proven: 1024,
        proven_bytes: 2 << 20,
    };
    let rules = TypeRules { batching, ..TypeRules::new(TYPE, 0) };
    let mut stream = Stream::new(set.clone(), &ServerConfig::new(vec![rules]));
    let mut now = std::time::Instant::now();
    let mut request = DeltaDiscoveryRequest { type_url: TYPE.to_owned(), ..Default::default() };
    loop {
        stream.request(request.clone())?;
        now += Duration::from_millis(1);
        let Some(response) = stream.poll(now).pop() else { return Ok(stream) };
        request.response_nonce = response.nonce;
    }
}

fn print(what: &str, bytes: usize) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{what}: {} bytes", bytes / COUNT)
}

fn resident() -> Result<usize, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    let kib: usize = line.split_whitespace().next().ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}
