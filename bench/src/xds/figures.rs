//! The figures of a trial, compared with the peers and the targets.

use super::{Cell, Change, Kind, Measured, Reading, Readings, Subject, Trial, Work};
use crate::report::{Figure, Times};

/// The figures of a trial with this many requested rounds.
pub fn figures(trial: &Trial, measured: &Measured, asked: usize) -> Vec<Figure> {
    let of = Figures { trial, measured, asked };
    let shape = measured.rounds.values().flatten().next();
    let readings = shape.map(|round| round.values.as_slice()).unwrap_or_default();
    let mut figures: Vec<Figure> =
        readings.iter().flat_map(|reading| of.reading(reading)).collect();
    figures.extend(of.delays());
    figures.extend(of.unfinished());
    figures
}

struct Figures<'a> {
    trial: &'a Trial,
    measured: &'a Measured,
    asked: usize,
}

impl Figures<'_> {
    /// One for each subject: the median, or the sum of all faults.
    fn reading(&self, reading: &Reading) -> Vec<Figure> {
        let value = |subject| {
            let values = self.measured.values(subject, &reading.what);
            let one = if reading.fault {
                values.iter().sum()
            } else {
                Times(values.clone()).percentile(0.5)
            };
            (!values.is_empty()).then_some(one)
        };
        self.beside(&reading.what, reading.unit, value, !reading.fault)
    }

    /// Over the changes of all rounds.
    fn delays(&self) -> Vec<Figure> {
        let all = |subject| {
            let rounds = self.measured.rounds.get(&subject).into_iter().flatten();
            Times(rounds.flat_map(|round: &Readings| round.delays.0.clone()).collect())
        };
        let figure = |(label, share): (&str, f64)| {
            let what = format!("last client has it, {label}");
            let value = |subject| Some(all(subject).percentile(share)).filter(|v| v.is_finite());
            self.beside(&what, "ms", value, true)
        };
        [("p50", 0.5), ("p99", 0.99), ("max", 1.0)].into_iter().flat_map(figure).collect()
    }

    fn unfinished(&self) -> Vec<Figure> {
        let figure = |(subject, why): (&Subject, &String)| {
            let done = self.measured.rounds.get(subject).map_or(0, Vec::len);
            let name =
                format!("{}, {}: rounds until one was {why}", self.trial.name(), subject.name());
            Figure::new(name, done as f64, "rounds")
        };
        self.measured.unfinished.iter().map(figure).collect()
    }

    /// Ours first, then the peers', each with its ratio to ours.
    fn beside(
        &self,
        what: &str,
        unit: &'static str,
        value: impl Fn(Subject) -> Option<f64>,
        ratio: bool,
    ) -> Vec<Figure> {
        let ours = value(Subject::Ours);
        let figure = |subject: Subject| {
            let mine = value(subject)?;
            let (trial, who, few) = (self.trial.name(), subject.name(), self.few(subject));
            let figure = Figure::new(format!("{trial}: {what}, {who}{few}"), mine, unit);
            let figure = match ours {
                Some(ours) if ratio && ours != 0.0 && subject != Subject::Ours => {
                    figure.beside("ours", mine / ours)
                }
                _ => figure,
            };
            Some(self.aimed(what, subject, figure))
        };
        [Subject::Ours, Subject::Floor, Subject::Snapshot, Subject::Linear]
            .into_iter()
            .filter_map(figure)
            .collect()
    }

    /// A note if there were fewer rounds than requested.
    fn few(&self, subject: Subject) -> String {
        match self.measured.rounds.get(&subject).map_or(0, Vec::len) {
            done if done < self.asked => format!(" ({done} of {} rounds)", self.asked),
            _ => String::new(),
        }
    }

    /// Ours against the limits; and against the cache that shares a resource set among clients,
    /// which gateways use.
    fn aimed(&self, what: &str, subject: Subject, figure: Figure) -> Figure {
        let rounds = self.measured.rounds.get(&subject).into_iter().flatten();
        let fault = rounds.flat_map(|r| &r.values).any(|r| r.fault && r.what == what);
        match (self.trial.work, subject, what) {
            (_, Subject::Ours, _) if fault => figure.at_most(0.0),
            (Work::Cell(cell), ..) if cell.change == Change::One => {
                aim(cell, what, subject, figure)
            }
            (Work::Storms(_), Subject::Ours, "all come back, bytes by a full sync's") => {
                figure.at_most(0.05)
            }
            (Work::Memory(of), Subject::Ours, "per client that was filled")
                if of.resources == 10_000 =>
            {
                figure.at_most(64.0)
            }
            _ => figure,
        }
    }
}

fn aim(cell: Cell, what: &str, subject: Subject, figure: Figure) -> Figure {
    let plain = cell.kind == Kind::Cds && !cell.slow;
    match (what, subject, cell.clients, cell.resources) {
        ("CPU per 1,000 changes", Subject::Snapshot, 100, 1_000) if plain => figure.at_least(50.0),
        ("CPU per 1,000 changes", Subject::Snapshot, 100, 10_000) if plain => {
            figure.at_least(500.0)
        }
        ("sync of all, CPU", Subject::Snapshot, 100, _) if plain => figure.at_least(5.0),
        ("last client has it, p99", Subject::Ours, 100, _) => figure.at_most(50.0),
        _ => figure,
    }
}
