//! The line protocol that the driver uses to change a server's resource set:
//! `change TOGETHER TIMES PAUSE_MICROS`, answered by `done GENERATION`.

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Kind;

/// The arguments of a server: `cds|eds COUNT`.
pub fn arguments() -> Result<(Kind, u64)> {
    let mut arguments = std::env::args().skip(1);
    let kind = match arguments.next().as_deref() {
        Some("cds") => Kind::Cds,
        Some("eds") => Kind::Eds,
        _ => bail!("arguments: cds|eds COUNT"),
    };
    Ok((kind, arguments.next().context("COUNT")?.parse()?))
}

/// Prints the port, then executes the lines. A change is a list of resources, each with its index
/// and generation.
pub fn follow(port: u16, count: u64, mut change: impl FnMut(&[(u64, u64)])) -> Result<()> {
    say(&format!("ready {port}"));
    let mut generation = 0;
    for line in std::io::stdin().lock().lines() {
        let (together, times, pause) = parse(&line?)?;
        let mut due = Instant::now();
        for _ in 0..times {
            let next = generation..generation + together;
            let resources: Vec<_> = next.map(|before| (before % count, before + 1)).collect();
            generation += together;
            change(&resources);
            due += pause;
            std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        say(&format!("done {generation}"));
    }
    Ok(())
}

fn parse(line: &str) -> Result<(u64, u64, Duration)> {
    let words: Vec<&str> = line.split(' ').collect();
    let ["change", together, times, pause] = words.as_slice() else {
        bail!("not understood: {line}")
    };
    Ok((together.parse()?, times.parse()?, Duration::from_micros(pause.parse()?)))
}

#[expect(clippy::print_stdout, reason = "the answer to the driver")]
fn say(line: &str) {
    println!("{line}");
}
