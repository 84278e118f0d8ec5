//! What a request has used of its limits, for the headers of its answer: `RateLimit-Policy` and `RateLimit` of the IETF's
//! draft-ietf-httpapi-ratelimit-headers.

use std::cell::RefCell;
use std::future::Future;

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use governor::Quota;
use governor::middleware::StateSnapshot;

tokio::task_local! {
    // Limits are asked deep inside, also by WebSocket frames, which have no headers to answer with.
    static RATES: RefCell<Vec<Rate>>;
}

/// Where a request stands with one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rate {
    limit: &'static str,
    most: u32,
    /// In which `most` come back.
    window_s: u64,
    left: u32,
    /// Until all have come back.
    reset_s: u64,
}

/// Notes where the request under way stands with a limit; the last word on each counts.
pub(crate) fn note(limit: &'static str, state: &StateSnapshot) {
    note_left(limit, state.quota(), state.remaining_burst_capacity());
}

/// Notes that nothing is left of a limit.
pub(crate) fn note_used_up(limit: &'static str, quota: Quota) {
    note_left(limit, quota, 0);
}

fn note_left(limit: &'static str, quota: Quota, left: u32) {
    let most = quota.burst_size().get();
    let s_of = |count: u32| (quota.replenish_interval() * count).as_millis().div_ceil(1_000).max(1) as u64;
    let rate = Rate { limit, most, window_s: s_of(most), left, reset_s: s_of(most.saturating_sub(left)) };
    let _ = RATES.try_with(|rates| {
        let mut rates = rates.borrow_mut();
        rates.retain(|known| known.limit != limit);
        rates.push(rate);
    });
}

/// Puts what was noted into the answer's headers.
pub(crate) async fn show(request: Request, next: Next) -> Response {
    let (mut response, rates) = noting(next.run(request)).await;
    if !rates.is_empty() {
        let [policies, states] = texts(&rates);
        for (name, text) in [("ratelimit-policy", policies), ("ratelimit", states)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(name, value);
            }
        }
    }
    response
}

async fn noting<T>(work: impl Future<Output = T>) -> (T, Vec<Rate>) {
    RATES.scope(RefCell::default(), async { (work.await, RATES.with(RefCell::take)) }).await
}

/// Policies and states as lists of structured fields (RFC 9651).
fn texts(rates: &[Rate]) -> [String; 2] {
    let list = |text: &dyn Fn(&Rate) -> String| rates.iter().map(text).collect::<Vec<_>>().join(", ");
    [
        list(&|rate| format!("\"{}\";q={};w={}", rate.limit, rate.most, rate.window_s)),
        list(&|rate| format!("\"{}\";r={};t={}", rate.limit, rate.left, rate.reset_s)),
    ]
}

#[cfg(test)]
mod tests {
    use runtime::config::LimitsConfig;

    use super::*;
    use crate::limits::Limits;

    #[tokio::test]
    async fn answers_tell_what_is_left() {
        let config = LimitsConfig { requests_per_s: 10, requests_burst: 30, ..LimitsConfig::default() };
        let config = LimitsConfig { commands_per_s: 1, commands_burst: 2, ..config };
        let limits = Limits::new(&config);
        let ask = || async { (limits.request([127, 0, 0, 1].into()), limits.command("alice")) };
        let (_, rates) = noting(ask()).await;
        let [policies, states] = texts(&rates);
        assert_eq!(policies, "\"address\";q=30;w=3, \"person\";q=2;w=2");
        assert_eq!(states, "\"address\";r=29;t=1, \"person\";r=1;t=1");
        let _ = noting(ask()).await;
        let ((_, refused), rates) = noting(ask()).await;
        assert!(refused.is_err());
        assert_eq!(texts(&rates)[1], "\"address\";r=27;t=1, \"person\";r=0;t=2");
        // Outside of a request nobody is told.
        limits.command("bob").unwrap();
    }
}
