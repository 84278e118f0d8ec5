//! Names of what the plumbing itself counts.

/// Spans that a collector took.
pub const EXPORTED_SPANS: &str = "waltalkie_trace_exported_spans_total";
/// Spans that were dropped.
pub const DROPPED_SPANS: &str = "waltalkie_trace_dropped_spans_total";
