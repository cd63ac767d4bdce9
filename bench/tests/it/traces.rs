//! One request can be traced from REST to the Envoys that serve its result.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use imp_bench::process::eventually;
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack};
use opentelemetry_proto::tonic::collector::trace::v1 as otlp;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use otlp::trace_service_server::{TraceService, TraceServiceServer};
use tokio_stream::wrappers::TcpListenerStream;

use crate::alone::side_by_side;

/// A span as the collector received it.
#[derive(Clone, Debug)]
struct Got {
    service: String,
    name: String,
    trace: Vec<u8>,
    span: Vec<u8>,
    parent: Vec<u8>,
    fields: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Got>>>);

fn texts(fields: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &AnyValue| match &value.value {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        _ => String::new(),
    };
    let field = |it: &KeyValue| Some((it.key.clone(), text(it.value.as_ref()?)));
    fields.iter().filter_map(field).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<otlp::ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<otlp::ExportTraceServiceResponse>, tonic::Status> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for of_service in request.into_inner().resource_spans {
            let about = of_service.resource.map(|of| texts(&of.attributes)).unwrap_or_default();
            let service = about.get("service.name").cloned().unwrap_or_default();
            for span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                all.push(Got {
                    service: service.clone(),
                    name: span.name,
                    trace: span.trace_id,
                    span: span.span_id,
                    parent: span.parent_span_id,
                    fields: texts(&span.attributes),
                });
            }
        }
        Ok(tonic::Response::new(otlp::ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> Result<(Self, String)> {
        let collector = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let service = TraceServiceServer::new(collector.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok((collector, endpoint))
    }

    /// Spans of the trace that the request with this id began.
    fn of_request(&self, operation: &str) -> Vec<Got> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |got: &&Got| {
            got.name == "request"
                && got.fields.get("operation").is_some_and(|said| said == operation)
        };
        let Some(request) = all.iter().find(is_it) else { return Vec::new() };
        all.iter().filter(|got| got.trace == request.trace).cloned().collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_is_one_trace_from_the_request_to_the_acknowledgement() -> Result<()> {
    let _turn = side_by_side().await;
    let (collector, endpoint) = Collector::start().await?;
    let flag = format!("--otlp-endpoint={endpoint}");
    let mut options = Options::default();
    options.control_flags.push(flag.clone());
    options.agent_flags.push(flag);
    let stack = Stack::start(options).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let echo = provider.echo(&stack, "one").await?;
    let publish = provider.publish(&echo.product_id, "one.example.com", "none").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;

    let mut last = Vec::new();
    let whole = eventually("the whole trace", PATIENCE, async || {
        last = collector.of_request("product_publishes.create");
        let there = |service: &str, name: &str| {
            last.iter().any(|got| got.service == service && got.name == name)
        };
        let control = ["request", "begin", "commit", "compile", "delivery"];
        let whole = control.iter().all(|name| there("imp-control", name));
        Ok((whole && there("imp-agent", "serve")).then_some(()))
    });
    whole.await.with_context(|| format!("{last:#?}"))?;

    // All spans name the request, and are connected.
    let ids: BTreeSet<_> = last.iter().filter_map(|got| got.fields.get("request_id")).collect();
    assert_eq!(ids.len(), 1, "{last:#?}");
    let spans: BTreeSet<_> = last.iter().map(|got| &got.span).collect();
    for got in last.iter().filter(|got| got.name != "request") {
        assert!(spans.contains(&got.parent), "{got:#?} in {last:#?}");
    }
    let request = last.iter().find(|got| got.name == "request").context("a request")?;
    assert_eq!(request.fields.get("status").map(String::as_str), Some("201"), "{request:#?}");
    let metrics = stack.admin.metrics().await?;
    for stage in ["compiled", "sent", "acknowledged", "active"] {
        let series = format!("imp_delivery_seconds_count{{stage=\"{stage}\"}}");
        assert!(metrics.contains(&series), "{series}: {metrics}");
    }
    for series in ["imp_http_request_seconds_count{", "imp_database_seconds_count{"] {
        assert!(metrics.contains(series), "{series}");
    }
    Ok(())
}
