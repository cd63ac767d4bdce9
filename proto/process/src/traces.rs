//! Spans: exported to a collector and continued between processes.
//!
//! Spans are exported over OTLP/gRPC if an endpoint is set, and are part of log lines otherwise.
//! Tables and streams carry the W3C trace context (`traceparent`).

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use thiserror::Error;
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// The W3C name of the header.
pub const TRACEPARENT: &str = "traceparent";

/// The timeout of one export.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The timeout of the last export when the program ends.
const FLUSH: Duration = Duration::from_secs(2);

/// The prefix of our packages: only their spans are exported.
const OURS: &str = "imp_";

/// The package whose spans are single statements.
const STORE: &str = "imp_store";

/// The endpoint is invalid.
#[derive(Debug, Error)]
#[error("--otlp-endpoint must be a URL such as http://collector:4317, and is {endpoint:?}: {why}")]
pub struct BadEndpoint {
    endpoint: String,
    why: String,
}

/// The exporter to the collector.
#[derive(Debug)]
pub struct Export(SdkTracerProvider);

impl Export {
    /// Exports to the collector at `endpoint`; `None` exports nothing. Nothing waits for the
    /// collector: spans that it does not accept in time are dropped. Must be called on a tokio
    /// runtime.
    pub fn start(
        service: &'static str,
        version: &'static str,
        endpoint: Option<&str>,
    ) -> Result<Option<Self>, BadEndpoint> {
        let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        let bad = |why: String| BadEndpoint { endpoint: endpoint.to_owned(), why };
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(bad("it has no scheme".to_owned()));
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| bad(error.to_string()))?;
        let of_service = Resource::builder()
            .with_service_name(service)
            .with_attribute(opentelemetry::KeyValue::new("service.version", version))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(of_service)
            // Ignores the caller's trace flags: callers cannot prevent recording.
            .with_sampler(Sampler::AlwaysOn)
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    /// Exports spans of our packages, from level `info` up, and each statement of the store, whatever the
    /// log's filter is.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'s> LookupSpan<'s>,
    {
        let ours = Targets::new().with_target(OURS, Level::INFO).with_target(STORE, Level::DEBUG);
        tracing_opentelemetry::layer().with_tracer(self.0.tracer("imp")).with_filter(ours)
    }

    /// Exports the rest. Blocks for two seconds at most.
    pub fn end(self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// The current span as a trace context; empty when spans are not exported.
pub fn traceparent() -> String {
    of_span(&Span::current())
}

/// The span as a trace context; empty when spans are not exported.
pub fn of_span(span: &Span) -> String {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return String::new();
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT).unwrap_or_default()
}

/// Makes a span that has not been entered a child of the trace context. Invalid text is ignored.
pub fn follow(span: &Span, traceparent: &str) {
    if traceparent.is_empty() {
        return;
    }
    let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
    let context = TraceContextPropagator::new().extract(&carrier);
    if context.span().span_context().is_valid() {
        // Fails if spans are not exported; the span then has no parent.
        let _alone = span.set_parent(context);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1 as otlp;
    use opentelemetry_proto::tonic::trace::v1::Span as Exported;
    use otlp::trace_service_server::{TraceService, TraceServiceServer};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::TcpListenerStream;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    struct Collector(mpsc::UnboundedSender<otlp::ExportTraceServiceRequest>);

    #[tonic::async_trait]
    impl TraceService for Collector {
        async fn export(
            &self,
            request: tonic::Request<otlp::ExportTraceServiceRequest>,
        ) -> Result<tonic::Response<otlp::ExportTraceServiceResponse>, tonic::Status> {
            let _gone = self.0.send(request.into_inner());
            Ok(tonic::Response::new(otlp::ExportTraceServiceResponse::default()))
        }
    }

    /// Asks not to be recorded.
    const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_reaches_the_collector_as_a_child_of_its_context() {
        let (sender, mut received) = mpsc::unbounded_channel();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = TraceServiceServer::new(Collector(sender));
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(collector)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        let export = Export::start("imp-test", "1", Some(&endpoint)).unwrap().unwrap();
        let subscriber = tracing_subscriber::registry().with(export.layer());
        tracing::subscriber::with_default(subscriber, || {
            let request = tracing::info_span!(target: "imp_test", "request", request_id = "7");
            follow(&request, CALLER);
            let _inside = request.enter();
            assert_eq!(traceparent().get(3..35), CALLER.get(3..35), "the same trace");
            assert_ne!(traceparent(), CALLER, "another span");
            tracing::info_span!(target: "imp_test", "transaction").in_scope(|| {});
            tracing::info_span!(target: "somebody_else", "theirs").in_scope(|| {});
        });
        tokio::task::spawn_blocking(|| export.end()).await.unwrap();
        let got = received.recv().await.unwrap();
        let mut spans = got.resource_spans[0].scope_spans[0].spans.clone();
        spans.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["request", "transaction"]);
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let parent = |span: &Exported| hex(&span.parent_span_id);
        assert_eq!(Some(&*parent(&spans[0])), CALLER.get(36..52));
        assert_eq!(parent(&spans[1]), hex(&spans[0].span_id));
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported_and_nothing_fails() {
        assert!(Export::start("imp-test", "1", None).unwrap().is_none());
        assert!(Export::start("imp-test", "1", Some("")).unwrap().is_none());
        let span = tracing::info_span!("alone");
        follow(&span, CALLER);
        assert_eq!((of_span(&span), traceparent()), (String::new(), String::new()));
    }

    #[tokio::test]
    async fn what_is_no_url_is_refused_in_one_line() {
        let error = Export::start("imp-test", "1", Some("collector:4317")).unwrap_err().to_string();
        assert!(error.contains("collector:4317") && error.contains("scheme"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }

    #[test]
    fn what_is_no_trace_context_is_passed_over() {
        for text in ["", "00", "00-zz-zz-01", &"x".repeat(10_000)] {
            follow(&tracing::info_span!("alone"), text);
        }
    }
}
