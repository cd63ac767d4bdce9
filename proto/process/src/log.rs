//! The log: on standard error, in colour only on a terminal, without characters that control a
//! terminal.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use imp_grammar::texts::shown;
use tracing::field::Field;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};

use crate::traces::Export;

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// The Kubernetes client logs each failed request. Its callers report the failure once.
const USUAL: &str = "info,kube_client=off,kube_runtime=off";

/// Starts logging events with their spans, filtered by RUST_LOG. Also exports spans if `export` is
/// given.
pub fn start(format: LogFormat, export: Option<&Export>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(USUAL));
    let lines = lines(format, filter, std::io::stderr().is_terminal(), std::io::stderr);
    let spans = export.map(Export::layer);
    // A second start in one process keeps the first configuration.
    let _ = tracing_subscriber::registry().with(lines).with(spans).try_init();
}

/// The layer that writes lines.
fn lines<W, S>(
    format: LogFormat,
    filter: EnvFilter,
    colour: bool,
    writer: W,
) -> Box<dyn Layer<S> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(colour).with_writer(writer);
    match format {
        // Text from peers may be in the fields and in the message.
        LogFormat::Text => Box::new(layer.fmt_fields(debug_fn(field)).with_filter(filter)),
        // JSON escapes control characters, and is read by programs.
        LogFormat::Json => Box::new(layer.json().with_filter(filter)),
    }
}

fn field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let mut text = String::new();
    write!(text, "{value:?}")?;
    match field.name() {
        "message" => write!(writer, "{} ", shown(&text)),
        name => write!(writer, "{name}={} ", shown(&text)),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, colour: bool) -> String {
        let memory = Memory::default();
        let made = memory.clone();
        let lines = lines(format, EnvFilter::new("info"), colour, move || made.clone());
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            let words = "red \u{1b}[31m\u{202e}\nFORGED line\u{9b}2J";
            let _inside = tracing::info_span!("request", request_id = %words).entered();
            tracing::warn!(words = %words, quoted = ?words, "said {words}");
        });
        let bytes = memory.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn what_a_peer_says_neither_paints_the_log_nor_forges_lines_in_it() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, false);
            assert_eq!(text.trim_end().lines().count(), 1, "{text:?}");
            // JSON requires control characters to be escaped.
            let json = format == LogFormat::Json;
            let raw = |c: char| c.is_control() && c != '\n' && !(json && c > ' ');
            assert!(!text.contains(raw), "{text:?}");
            assert!(text.contains("FORGED"), "{text:?}");
        }
        let text = logged(LogFormat::Text, false);
        assert!(text.contains("words=red \\u{1b}[31m\\u{202e}\\nFORGED"), "{text:?}");
    }

    #[test]
    fn on_a_terminal_only_our_own_colours_are_there() {
        let text = logged(LogFormat::Text, true);
        assert!(text.contains('\u{1b}'), "colour is on: {text:?}");
        assert!(!text.contains("\u{1b}[31m\u{202e}") && !text.contains('\u{9b}'), "{text:?}");
    }
}
