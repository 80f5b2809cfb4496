//! Requests as spans for an OpenTelemetry collector, by OTLP over HTTP.
//!
//! Whether there is a collector, and all about it, is said as to any program that speaks OTLP: by
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, `OTEL_BSP_…` (OpenTelemetry, "OTLP Exporter
//! Configuration"). Spans are made from what is logged of a request, and bear its id: the trace is
//! the id's two halves, so that a line of the log leads to its trace.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use super::Entry;

/// Either of them names a collector.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// How long a collector may take over one step of one exchange.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer of a collector that is read.
const LONGEST: u64 = 64 << 10;

/// The way to a collector: a queue with a bound, and a thread that sends. Dropped, it sends what is
/// left.
#[derive(Debug)]
pub struct Spans(BatchSpanProcessor);

impl Spans {
    /// `None`: the environment names no collector.
    ///
    /// # Errors
    /// What it says of the collector cannot be.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        if ENDPOINTS.iter().all(|name| env::var_os(name).is_none()) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().with_http_client(Plain);
        let exporter = exporter.build().context("OTEL_EXPORTER_OTLP_…")?;
        let name = env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "narwharf".to_owned());
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(name);
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource.with_attribute(version).build());
        Ok(Some(Self(processor)))
    }

    /// Queues the span of a request; where the queue is full it is dropped.
    pub fn tell(&self, entry: &Entry<'_>) {
        let end = SystemTime::now();
        self.0.on_end(span(entry, end));
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!(%error, "the collector did not take the last spans");
        }
    }
}

fn span(entry: &Entry<'_>, end: SystemTime) -> SpanData {
    let (trace, own) = ids(entry.id);
    let mut attributes = vec![
        KeyValue::new("http.request.method", entry.method.to_owned()),
        KeyValue::new("url.path", entry.path.to_owned()),
        KeyValue::new("http.response.status_code", i64::from(entry.status)),
        KeyValue::new("http.response.body.size", entry.bytes as i64),
        KeyValue::new("narwharf.request_id", entry.id.to_owned()),
        KeyValue::new("narwharf.whole", entry.whole),
        KeyValue::new("narwharf.how", entry.how),
        KeyValue::new(
            "narwharf.first_byte_us",
            entry.first_byte.as_micros() as i64,
        ),
    ];
    attributes.extend(
        entry
            .client
            .map(|client| KeyValue::new("client.address", client.to_string())),
    );
    attributes.extend(
        entry
            .slow
            .map(|waited_for| KeyValue::new("narwharf.slow", waited_for)),
    );
    SpanData {
        span_context: SpanContext::new(
            trace,
            own,
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: format!("{} {}", entry.method, entry.kind).into(),
        start_time: end.checked_sub(entry.total).unwrap_or(end),
        end_time: end,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: match (entry.status, entry.why) {
            (500.., why) => Status::error(why.unwrap_or_default().to_owned()),
            _ => Status::Unset,
        },
        instrumentation_scope: InstrumentationScope::builder("narwharf").build(),
    }
}

/// A request's id is eight hexadecimal digits of the process, a dash and a count that is never 0.
fn ids(id: &str) -> (TraceId, SpanId) {
    let number = |digits| u64::from_str_radix(digits, 16).unwrap_or_default();
    let (process, count) = id.split_once('-').unwrap_or((id, "1"));
    let (process, count) = (number(process), number(count));
    let trace = (u128::from(process) << 64) | u128::from(count);
    (
        TraceId::from_bytes(trace.to_be_bytes()),
        SpanId::from_bytes(count.to_be_bytes()),
    )
}

/// HTTP to a collector on this machine or beside it: one request on one connection, without TLS. Is
/// used by the thread that sends, and by nobody else, so it may block.
#[derive(Debug)]
struct Plain;

#[async_trait::async_trait]
impl HttpClient for Plain {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(exchange(&request)?)
    }
}

fn exchange(request: &Request<Bytes>) -> io::Result<Response<Bytes>> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    let uri = request.uri();
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(refused("allowed is a collector at http://HOST[:PORT]"));
    };
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect((authority.host().trim_matches(['[', ']']), port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let (method, body) = (request.method(), request.body());
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in request.headers() {
        let value = value.to_str().map_err(|_| refused("a header is no text"))?;
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(body)?;

    // HTTP/1.0: the answer ends with the connection, and only its status matters.
    let mut answer = BufReader::new(stream.take(LONGEST));
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok());
    let status = status.ok_or_else(|| refused("the collector does not speak HTTP"))?;
    let answered = Response::builder().status(status).body(Bytes::new());
    answered.map_err(|_| refused("the collector's status is none"))
}
