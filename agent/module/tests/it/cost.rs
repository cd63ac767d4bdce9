//! What a decision costs Envoy: CPU and throughput beside the same route without a filter.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use imp_module::feed::frame;
use imp_module::feed::message::{FromAgent, FromModule, Kind, Named, Told, Update};
use imp_module::snapshot::Writer;
use imp_proto::config::Credential;
use serde_json::json;

use crate::bootstrap::{self, bootstrap as with};
use crate::envoy::{Connection, Envoy, free_port, library, upstream};
use crate::fixtures::{self as of, KEY};

const CALLERS: usize = 8;
const ROUNDS: usize = 5;

/// Clock ticks of CPU that a process has used; 100 a second.
fn ticks(process: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Answers a second, and microseconds of Envoy's CPU for each.
fn measure(port: u16, envoy: &Envoy) -> (f64, f64) {
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (begun, before) = (Instant::now(), ticks(&envoy.id()));
    let call = |_| {
        let (stop, answers) = (stop.clone(), answers.clone());
        std::thread::spawn(move || {
            let request =
                format!("GET /direct HTTP/1.1\r\nhost: a.test\r\nx-api-key: {KEY}\r\n\r\n");
            let mut connection = Connection::open(port).unwrap();
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(connection.ask(request.as_bytes()).unwrap().status, 418);
                answers.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(call).collect();
    std::thread::park_timeout(Duration::from_secs(3));
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let answers = answers.load(Ordering::Relaxed) as f64;
    let cpu = (ticks(&envoy.id()) - before) as f64 * 10_000.0;
    (answers / begun.elapsed().as_secs_f64(), cpu / answers)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
#[ignore = "measures; needs a release build, named by IMP_MODULE, and a quiet machine"]
fn a_decision_beside_none() {
    let library = std::env::var_os("IMP_MODULE").map_or_else(library, Into::into);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    of::write_snapshot(&file, of::everything(&[]));
    let state = json!({"snapshot": file, "counters": directory.path().join("counters")});
    let (module, none) = (free_port(), free_port());
    let through = bootstrap::door(&library, "door", &json!({"state": state}));
    // Does nothing without a configuration of the route.
    let nothing = json!({"name": "imp.cors", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}});
    let listeners = [
        bootstrap::listener(module, through, &json!({"access_log": []})),
        bootstrap::listener(none, nothing, &json!({"access_log": []})),
    ];
    let envoy = Envoy::start(&with(&listeners, upstream(), 1), 1);
    let (mut with_module, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with_module.push(measure(module, &envoy));
        without.push(measure(none, &envoy));
    }
    let rate = |all: &[(f64, f64)]| median(all.iter().map(|it| it.0).collect());
    let cpu = |all: &[(f64, f64)]| median(all.iter().map(|it| it.1).collect());
    println!(
        "module: {:.0} answers a second, {:.1} us of CPU",
        rate(&with_module),
        cpu(&with_module)
    );
    println!("none:   {:.0} answers a second, {:.1} us of CPU", rate(&without), cpu(&without));
    println!("ratio of answers {:.2}", rate(&with_module) / rate(&without));
    println!("added CPU {:.1} us", cpu(&with_module) - cpu(&without));
}

/// Kilobytes of memory that a process has.
fn memory(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Starts an Envoy that knows this many more keys. Returns it with the time until it served.
fn with_keys(
    library: &Path,
    keys: usize,
) -> (Envoy, u16, Duration, tempfile::TempDir, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let (file, feed) = (directory.path().join("snapshot"), directory.path().join("feed.sock"));
    let mut items = of::everything(&[]);
    let more = (0..keys).map(|number| {
        let subscription_id = KEY.to_owned();
        let credential = of::credential(&format!("imp_key_{number}"));
        Kind::Credential(Credential { subscription_id, ..credential }).into()
    });
    items.extend(more);
    let mut writer = Writer::create(&file).unwrap();
    let mut parts = items.chunks(10_000).peekable();
    while let Some(part) = parts.next() {
        let more = parts.peek().is_some();
        writer.update(&Update { more, ..of::snapshot(1, part.to_vec()) }).unwrap();
    }
    writer.finish().unwrap();
    drop(items);
    let agent = UnixListener::bind(&feed).unwrap();
    let state =
        json!({"snapshot": file, "feed": feed, "counters": directory.path().join("counters")});
    let port = free_port();
    let door = bootstrap::door(library, "door", &json!({"state": state}));
    let listener = bootstrap::listener(port, door, &json!({"access_log": []}));
    let begun = Instant::now();
    let envoy = Envoy::start(&with(&[listener], upstream(), 1), 1);
    (envoy, port, begun.elapsed(), directory, agent)
}

#[test]
#[ignore = "measures; needs a release build, named by IMP_MODULE, and a quiet machine"]
fn many_keys() {
    let library = std::env::var_os("IMP_MODULE").map_or_else(library, Into::into);
    let keys: usize = std::env::var("KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    let (envoy, .., no_time, _directory, _agent) = with_keys(&library, 0);
    let none = memory(&envoy.id());
    drop(envoy);
    let (envoy, port, time, _directory, agent) = with_keys(&library, keys);
    let each = (memory(&envoy.id()) - none) as f64 * 1024.0 / keys as f64;
    println!("{keys} keys: {each:.0} bytes each, serves after {time:?} ({no_time:?} without)");
    // Connections that the module gave up while nobody answered come first.
    agent.set_nonblocking(true).unwrap();
    let links = std::iter::from_fn(|| agent.accept().ok());
    let (mut writer, _) = links.last().unwrap();
    writer.set_nonblocking(false).unwrap();
    let mut reader = writer.try_clone().unwrap();
    let _hello: FromModule = frame::read(&mut reader).unwrap();
    let mut connection = Connection::open(port).unwrap();
    let mut times = Vec::new();
    for number in 0..200 {
        let key = format!("imp_key_{}", number * (keys / 200).max(1));
        let request = format!("GET /direct HTTP/1.1\r\nhost: a.test\r\nx-api-key: {key}\r\n\r\n")
            .into_bytes();
        assert_eq!(connection.ask(&request).unwrap().status, 418);
        let gone = Named::Credential(of::credential(&key).id);
        let change = Update {
            since: 1 + number as u64,
            remove: vec![gone.into()],
            ..of::snapshot(2 + number as u64, vec![])
        };
        let begun = Instant::now();
        frame::write(&mut writer, &FromAgent::from(Told::Update(change))).unwrap();
        while connection.ask(&request).unwrap().status != 401 {
            assert!(begun.elapsed() < Duration::from_secs(5), "not revoked: {}", envoy.log());
        }
        times.push(begun.elapsed());
    }
    times.sort();
    println!("revoke to the first 401: p50 {:?}, p99 {:?}", times[100], times[198]);
}
