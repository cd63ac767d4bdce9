//! Statements as spans.

use tracing::instrument::Instrumented;
use tracing::{Instrument as _, debug_span};

/// Runs the statement in a span, which has the operation and the table but no values. At `debug`, which
/// only the export of spans takes: the log would pay for each statement.
pub(crate) fn traced<F: Future>(sql: &str, statement: F) -> Instrumented<F> {
    let span = debug_span!("sql", operation = subject(sql).0, table = subject(sql).1);
    statement.instrument(span)
}

/// Operation and table: `SELECT id FROM plans ..` gives `SELECT`, `plans`.
fn subject(sql: &str) -> (&str, &str) {
    let mut words = sql.split_ascii_whitespace();
    let operation = words.next().unwrap_or_default();
    let table = match operation {
        "UPDATE" | "LOCK" => words.find(|word| *word != "TABLE"),
        _ => words.skip_while(|word| !["FROM", "INTO"].contains(word)).nth(1),
    };
    (operation, table.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::subject;

    #[test]
    fn a_statement_says_its_table() {
        for (sql, expected) in [
            ("SELECT id, name FROM plans WHERE id = $1", ("SELECT", "plans")),
            ("INSERT INTO plans (id) VALUES ($1)", ("INSERT", "plans")),
            ("UPDATE plans SET name = $2", ("UPDATE", "plans")),
            ("DELETE FROM plans WHERE id = $1", ("DELETE", "plans")),
            ("LOCK TABLE plans IN SHARE MODE", ("LOCK", "plans")),
            ("SELECT 1", ("SELECT", "")),
        ] {
            assert_eq!(subject(sql), expected, "{sql}");
        }
    }
}
