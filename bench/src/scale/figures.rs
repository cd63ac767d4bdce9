//! The figures of runs, with their targets.

use super::{Contents, Measured};
use crate::report::{Figure, Times};

/// The size that most targets are about.
const LARGE: usize = 50_000;

/// The sizes between which the growth of POST to serve has a target.
const SMALL: usize = 1_000;

/// The figures of one run.
pub fn figures(run: &Measured) -> Vec<Figure> {
    let name = |what: &str| format!("{}: {what}", label(run));
    let (all, large) = (run.plan.contents == Contents::All, run.plan.publishes == LARGE);
    let either = |shared: f64, different: f64| if all { different } else { shared };
    let mut figures = Vec::new();
    let mut add = |what: &str, value: f64, unit, most: Option<f64>| {
        let figure = Figure::new(name(what), value, unit);
        figures.push(match most {
            Some(most) => figure.at_most(most),
            None => figure,
        });
    };
    let if_large = |most: f64| large.then_some(most);

    let served = run.post_to_serve.percentile(0.5);
    add("POST to serve p50", served, "ms", if_large(either(12.0, 20.0)));
    add("POST to serve p99", run.post_to_serve.percentile(0.99), "ms", None);
    add("POST to answer p50", run.post_to_answer.percentile(0.5), "ms", None);
    add("answer to serve p50", run.answer_to_serve.percentile(0.5), "ms", None);
    add("burst, until all are served", run.burst.served, "ms", if_large(10_000.0));
    add("burst, to Envoys", run.burst.bytes as f64 / 1_048_576.0, "MB", None);
    let lone = &run.burst.lone;
    add("lone publish in the burst p50", lone.percentile(0.5), "ms", None);
    add("lone publish in the burst max", lone.percentile(1.0), "ms", Some(100.0));
    let answered = run.burst.lone_answered.percentile(1.0);
    add("lone publish in the burst, POST to answer max", answered, "ms", None);
    add("lone publishes in the burst", lone.0.len() as f64, "", None);
    let revoked = &run.burst.revoked;
    add("revoke to 401 in the burst p50", revoked.percentile(0.5), "ms", None);
    add("revoke to 401 in the burst p99", revoked.percentile(0.99), "ms", Some(50.0));
    add("revocations in the burst", revoked.0.len() as f64, "", None);
    calls(&mut add, "the burst", &run.burst.calls.times, run.burst.calls.wrong);

    let of_agent = match run.plan.publishes {
        10_000 => Some(60.0),
        LARGE => Some(either(250.0, 400.0)),
        _ => None,
    };
    let of_control = match run.plan.publishes {
        10_000 => Some(60.0),
        LARGE => Some(150.0),
        _ => None,
    };
    add("agent RSS", run.agent.resident, "MB", of_agent);
    add("agent RSS peak", run.agent.peak, "MB", None);
    add("agent RSS after a restart", run.restart.agent.resident, "MB", of_agent);
    add("control plane RSS", run.control.resident, "MB", of_control);
    add("control plane RSS peak", run.control.peak, "MB", None);
    add("Envoy RSS", run.envoy.resident, "MB", if_large(either(250.0, 600.0)));
    add("Envoy RSS peak", run.envoy.peak, "MB", None);
    add("agent ready from disk", run.restart.ready, "ms", if_large(1_000.0));
    add("a new Envoy serves all", run.restart.fresh, "ms", if_large(2_000.0));
    add("restarted agent to Envoys that have all", run.sent_again, "B", None);

    add("edit, until redeploys are accepted", run.edit.accepted, "ms", None);
    add("edit, until all are served", run.edit.served, "ms", Some(1_000.0));
    add("edit, to Envoys", run.edit.bytes / 1024.0, "KB", None);
    calls(&mut add, "the edit", &run.edit.calls.times, run.edit.calls.wrong);
    add("behind after a load with Envoys", run.behind, "ms", None);
    figures.extend(rates(run, name));
    figures
}

/// Those that are to be large, or exact.
fn rates(run: &Measured, name: impl Fn(&str) -> String) -> Vec<Figure> {
    let accepted = |what: &str, value| Figure::new(name(what), value, "/s").at_least(1_000.0);
    let mut tables = Figure::new(name("edit, route tables"), run.edit.tables as f64, "");
    (tables.target, tables.held) = (Some("= 1".to_owned()), Some(run.edit.tables == 1));
    vec![
        tables,
        accepted("accepted per second, Envoys cut off", run.accepted),
        accepted("accepted per second, Envoys connected", run.accepted_live),
    ]
}

fn calls(
    add: &mut impl FnMut(&str, f64, &'static str, Option<f64>),
    during: &str,
    times: &Times,
    wrong: usize,
) {
    add(&format!("calls in {during} p50"), times.percentile(0.5), "ms", None);
    add(&format!("calls in {during} p99"), times.percentile(0.99), "ms", None);
    add(&format!("calls in {during}"), times.0.len() as f64, "", None);
    add(&format!("wrong answers in {during}"), wrong as f64, "", Some(0.0));
}

/// How POST to serve grows between runs that differ in their number of publishes only: the exponent
/// of that number.
pub fn growth(runs: &[Measured]) -> Vec<Figure> {
    let pairs = runs.windows(2).filter_map(|pair| <&[Measured; 2]>::try_from(pair).ok());
    let grown = |[small, large]: &[Measured; 2]| {
        let same = kind(small) == kind(large) && small.plan.publishes < large.plan.publishes;
        same.then(|| exponent(small, large))
    };
    pairs.filter_map(grown).chain(from_first_to_last(runs)).collect()
}

/// From the smallest to the largest of each kind.
fn from_first_to_last(runs: &[Measured]) -> Vec<Figure> {
    let alike = runs.chunk_by(|one, other| kind(one) == kind(other));
    let ends = alike
        .filter(|alike| alike.len() > 2)
        .filter_map(|alike| Some(exponent(alike.first()?, alike.last()?)));
    ends.collect()
}

fn exponent(small: &Measured, large: &Measured) -> Figure {
    let p50 = |run: &Measured| run.post_to_serve.percentile(0.5);
    let sizes = (small.plan.publishes, large.plan.publishes);
    let exponent = (p50(large) / p50(small)).ln() / (sizes.1 as f64 / sizes.0 as f64).ln();
    let name = format!("{}: POST to serve, exponent {} to {}", kind(small), sizes.0, sizes.1);
    let figure = Figure::new(name, exponent, "");
    if sizes == (SMALL, LARGE) { figure.at_most(0.2) } else { figure }
}

fn label(run: &Measured) -> String {
    format!("{}, {}", kind(run), run.plan.publishes)
}

/// What runs of all sizes have in common.
fn kind(run: &Measured) -> String {
    let contents = run.plan.contents.words();
    match &run.plan.layout {
        Some(layout) => format!("{layout}, {contents}"),
        None => contents,
    }
}
