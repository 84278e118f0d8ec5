//! Sampled traces: a command is followed from the gateway to the sockets, one span a station, told over OTLP.
//!
//! ```text
//!   gateway ──▶ persister ──▶ cdc ──▶ publisher ──▶ node        each a span, child of the one before
//!        header      logical      header     envelope           how the context gets there
//!                    message
//! ```
//!
//! Only a gateway decides what is sampled; whoever finds a context goes on with it. What isn't sampled has no span and no
//! context anywhere. Spans say who had which event when: ids and places, never a body, a name or a token.
//!
//! *Failure.* Nothing waits for a collector. What it doesn't take in time, or comes while too much waits already, is dropped and
//! counted. A span that isn't ended, since its station starts over, is never told.

mod export;

use schemas::trace::TraceContext;
use tokio::sync::mpsc;

use crate::clock;
use crate::config;
use crate::metrics;
use crate::shutdown::Shutdown;

/// Spans that wait to be sent.
const QUEUED: usize = 8_192;

/// Makes the spans of one role, and sends them on. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Tracer {
    on: Option<Sampling>,
}

#[derive(Debug, Clone)]
struct Sampling {
    ratio: f64,
    ended: mpsc::Sender<Ended>,
}

impl Tracer {
    /// The tracer of a role; one that does nothing, unless a collector is configured.
    pub fn start(config: &config::Trace, role: &'static str, shutdown: &Shutdown) -> Self {
        if config.otlp_endpoint.is_empty() {
            return Self::default();
        }
        let (ended, waiting) = mpsc::channel(QUEUED);
        match export::Exporter::new(&config.otlp_endpoint, role) {
            Ok(exporter) => {
                shutdown.spawn(exporter.run(waiting, shutdown.clone()));
            }
            Err(error) => {
                tracing::error!(%error, role, "traces can't be sent");
                return Self::default();
            }
        }
        Self { on: Some(Sampling { ratio: config.sample_ratio, ended }) }
    }

    /// Begins a trace, if this one is to be followed.
    pub fn sample(&self, name: &'static str) -> Option<Span> {
        let sampling = self.on.as_ref()?;
        if rand::random::<f64>() >= sampling.ratio {
            return None;
        }
        let context = TraceContext { trace_id: random_id(), span_id: random_id() };
        Some(Span::begin(name, context, None, Some(sampling.ended.clone())))
    }

    /// Goes on with a trace, if there is one. Without a collector the context is passed on as it came.
    pub fn follow(&self, name: &'static str, before: Option<TraceContext>) -> Option<Span> {
        let before = before?;
        Some(match &self.on {
            Some(sampling) => {
                let context = TraceContext { span_id: random_id(), ..before };
                Span::begin(name, context, Some(before.span_id), Some(sampling.ended.clone()))
            }
            None => Span::begin(name, before, None, None),
        })
    }
}

/// Random and not zero.
fn random_id<const N: usize>() -> [u8; N] {
    loop {
        let id: [u8; N] = std::array::from_fn(|_| rand::random());
        if id != [0; N] {
            return id;
        }
    }
}

/// A station's part of a trace. Told when it is ended; dropped, it was never there.
#[derive(Debug)]
pub struct Span {
    context: TraceContext,
    ended: Option<mpsc::Sender<Ended>>,
    told: Ended,
}

/// A span as it is told.
#[derive(Debug, Clone)]
struct Ended {
    context: TraceContext,
    parent: Option<[u8; 8]>,
    name: &'static str,
    from_ns: u64,
    until_ns: u64,
    notes: Vec<(&'static str, String)>,
    failure: Option<String>,
}

impl Span {
    fn begin(
        name: &'static str,
        context: TraceContext,
        parent: Option<[u8; 8]>,
        ended: Option<mpsc::Sender<Ended>>,
    ) -> Self {
        let told =
            Ended { context, parent, name, from_ns: clock::now_ns(), until_ns: 0, notes: Vec::new(), failure: None };
        Self { context, ended, told }
    }

    /// What the next station goes on with.
    pub const fn context(&self) -> TraceContext {
        self.context
    }

    /// Adds an attribute. Ids and places only.
    pub fn note(&mut self, key: &'static str, value: impl Into<String>) {
        if self.ended.is_some() {
            self.told.notes.push((key, value.into()));
        }
    }

    /// The station is done.
    pub fn end(self) {
        let Some(ended) = self.ended else { return };
        let told = Ended { until_ns: clock::now_ns().max(self.told.from_ns), ..self.told };
        if ended.try_send(told).is_err() {
            ::metrics::counter!(metrics::DROPPED_SPANS).increment(1);
        }
    }

    /// The station is done, and the trace ends here: a code, such as `chat_not_found`.
    pub fn end_refused(mut self, code: impl Into<String>) {
        self.told.failure = Some(code.into());
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(ratio: f64) -> (Tracer, mpsc::Receiver<Ended>) {
        let (ended, told) = mpsc::channel(1);
        (Tracer { on: Some(Sampling { ratio, ended }) }, told)
    }

    #[test]
    fn a_station_is_a_child_of_the_one_before() {
        let (tracer, mut told) = tracer(1.0);
        let first = tracer.sample("gateway").expect("sampled");
        let second = tracer.follow("persister", Some(first.context())).expect("followed");
        assert_eq!(second.context().trace_id, first.context().trace_id);
        assert_ne!(second.context().span_id, first.context().span_id);
        second.end();
        let told = told.try_recv().expect("told");
        assert_eq!(told.parent, Some(first.context().span_id));
        assert!(told.from_ns <= told.until_ns && told.from_ns > 0);
    }

    #[test]
    fn nobody_waits_for_a_collector() {
        let (tracer, mut told) = tracer(1.0);
        for _ in 0..3 {
            tracer.sample("gateway").expect("sampled").end();
        }
        drop(tracer.sample("given up"));
        assert!(told.try_recv().is_ok() && told.try_recv().is_err(), "what has no room is dropped");
    }

    #[test]
    fn what_isnt_sampled_has_no_span_and_without_a_collector_contexts_pass_through() {
        let (never, _told) = tracer(0.0);
        assert!((0..100).all(|_| never.sample("gateway").is_none()) && never.follow("cdc", None).is_none());
        let off = Tracer::default();
        assert!(off.sample("gateway").is_none());
        let context = TraceContext { trace_id: [1; 16], span_id: [2; 8] };
        assert_eq!(off.follow("cdc", Some(context)).expect("passed on").context(), context);
    }
}
