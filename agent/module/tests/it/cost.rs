//! What a decision costs Envoy: CPU and throughput beside the same route without a filter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
