//! The ledger: which message was due when, who has seen it, and when. All clients write to it.
//!
//! Clients show each chat's events strictly by `seq`, so if every message has one and the same `seq` for all observers,
//! nobody sees one twice, all see the same order, and the number of its observers tells what was lost.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::plan::Plan;
use waltalkie_client::{Anomaly, Event};

const ACCEPTED: u8 = 1;
const PERSISTED: u8 = 2;
const REFUSED: u8 = 4;
/// Longest latency that is told apart, in microseconds.
const MOST_US: u64 = 600_000_000;

/// Latencies in microseconds. Clones of it are snapshots.
pub(crate) type Latencies = Histogram<u64>;

/// What is known of all messages.
pub(crate) struct Ledger {
    pub(crate) plan: Arc<Plan>,
    interval: Duration,
    /// Messages at the beginning of each run that aren't measured.
    warmup: usize,
    starts: Vec<OnceLock<Instant>>,
    seqs: Vec<AtomicI64>,
    shown: Vec<AtomicU16>,
    states: Vec<AtomicU8>,
    /// Moments of first acks, in microseconds since the run's start; 0 where none has come.
    accepted_us: Vec<AtomicU64>,
    runs: Vec<Run>,
}

/// One run's figures, while they grow.
pub(crate) struct Run {
    /// Due → handed to the client: the bench's own delay.
    pub(crate) handed: Mutex<Latencies>,
    /// Due → the first ack.
    pub(crate) accepted: Mutex<Latencies>,
    /// Due → the second ack.
    pub(crate) persisted: Mutex<Latencies>,
    /// The first ack → the second one: Kafka to Postgres and back, without the way in.
    pub(crate) accepted_to_persisted: Mutex<Latencies>,
    /// Due → another member's client has the event.
    pub(crate) screen: Mutex<Latencies>,
    pub(crate) sent_count: AtomicU64,
    pub(crate) accepted_count: AtomicU64,
    pub(crate) persisted_count: AtomicU64,
    pub(crate) refused_count: AtomicU64,
    pub(crate) postponed_count: AtomicU64,
    pub(crate) shown_count: AtomicU64,
    pub(crate) repeated_count: AtomicU64,
    pub(crate) late_count: AtomicU64,
    pub(crate) gap_count: AtomicU64,
    pub(crate) altered_count: AtomicU64,
    pub(crate) closed_count: AtomicU64,
    /// Moment of the last second-level ack, in microseconds since the run's start.
    pub(crate) last_persisted_us: AtomicU64,
}

/// What came out of order, twice, or not at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Deliveries of acknowledged messages that never came.
    pub(crate) lost: u64,
    /// Messages or frames that came more than once.
    pub(crate) repeated: u64,
    /// Messages of one sender in another order than sent, and frames behind later ones.
    pub(crate) out_of_order: u64,
    /// Messages that said something else than was sent.
    pub(crate) altered: u64,
    /// Sends without a final answer.
    pub(crate) unanswered: u64,
}

impl Faults {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// None yet.
pub(crate) fn latencies() -> Latencies {
    // Three digits up to ten minutes; these bounds are valid, so the fallback is never taken.
    let histogram = Histogram::new_with_bounds(1, MOST_US, 3);
    histogram.unwrap_or_else(|_| Histogram::new_from(&Histogram::<u64>::new(3).unwrap_or_else(|_| unreachable!())))
}

impl Run {
    fn new() -> Self {
        Self {
            handed: Mutex::new(latencies()),
            accepted: Mutex::new(latencies()),
            persisted: Mutex::new(latencies()),
            accepted_to_persisted: Mutex::new(latencies()),
            screen: Mutex::new(latencies()),
            sent_count: AtomicU64::new(0),
            accepted_count: AtomicU64::new(0),
            persisted_count: AtomicU64::new(0),
            refused_count: AtomicU64::new(0),
            postponed_count: AtomicU64::new(0),
            shown_count: AtomicU64::new(0),
            repeated_count: AtomicU64::new(0),
            late_count: AtomicU64::new(0),
            gap_count: AtomicU64::new(0),
            altered_count: AtomicU64::new(0),
            closed_count: AtomicU64::new(0),
            last_persisted_us: AtomicU64::new(0),
        }
    }
}

/// Adds one.
pub(crate) fn record(latencies: &mut Latencies, us: u64) {
    latencies.saturating_record(us.clamp(1, MOST_US));
}

fn note(latencies: &Mutex<Latencies>, latency: Duration) {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
    record(&mut latencies.lock().unwrap_or_else(PoisonError::into_inner), us);
}

impl Ledger {
    pub(crate) fn new(plan: Arc<Plan>, rate_per_s: f64, warmup: usize) -> Self {
        let count = plan.sends.len();
        Self {
            interval: Duration::from_secs_f64(1.0 / rate_per_s),
            warmup,
            starts: (0..plan.sizes.runs).map(|_| OnceLock::new()).collect(),
            seqs: (0..count).map(|_| AtomicI64::new(0)).collect(),
            shown: (0..count).map(|_| AtomicU16::new(0)).collect(),
            states: (0..count).map(|_| AtomicU8::new(0)).collect(),
            accepted_us: (0..count).map(|_| AtomicU64::new(0)).collect(),
            runs: (0..plan.sizes.runs).map(|_| Run::new()).collect(),
            plan,
        }
    }

    pub(crate) fn run(&self, run: usize) -> &Run {
        &self.runs[run]
    }

    /// A run begins: its first message is due at `start`.
    pub(crate) fn start(&self, run: usize, start: Instant) {
        let _ = self.starts[run].set(start);
    }

    /// When a message is due, in microsecond steps that don't drift.
    pub(crate) fn due(&self, number: usize) -> Option<Instant> {
        let place = number % self.plan.sizes.messages_per_run.max(1);
        let start = self.starts.get(self.plan.run_of(number))?.get()?;
        Some(*start + self.interval.mul_f64(place as f64))
    }

    fn is_measured(&self, number: usize) -> bool {
        number % self.plan.sizes.messages_per_run.max(1) >= self.warmup
    }

    fn since_start_us(&self, number: usize, at: Instant) -> Option<u64> {
        let start = self.starts[self.plan.run_of(number)].get()?;
        u64::try_from(at.saturating_duration_since(*start).as_micros()).ok()
    }

    fn since_due(&self, number: usize, at: Instant) -> Duration {
        self.due(number).map_or(Duration::ZERO, |due| at.saturating_duration_since(due))
    }

    /// A message was handed to its client.
    pub(crate) fn sent(&self, number: usize, at: Instant) {
        let run = self.run(self.plan.run_of(number));
        run.sent_count.fetch_add(1, Relaxed);
        if self.is_measured(number) {
            note(&run.handed, self.since_due(number, at));
        }
    }

    /// The first ack.
    pub(crate) fn accepted(&self, number: usize, at: Instant) {
        if self.states[number].fetch_or(ACCEPTED, Relaxed) & ACCEPTED == 0 {
            let run = self.run(self.plan.run_of(number));
            run.accepted_count.fetch_add(1, Relaxed);
            self.accepted_us[number].store(self.since_start_us(number, at).unwrap_or(0), Relaxed);
            if self.is_measured(number) {
                note(&run.accepted, self.since_due(number, at));
            }
        }
    }

    /// The second ack.
    pub(crate) fn persisted(&self, number: usize, seq: Option<i64>, at: Instant) {
        let run = self.run(self.plan.run_of(number));
        self.has_seq(number, seq.unwrap_or(0));
        if self.states[number].fetch_or(PERSISTED, Relaxed) & PERSISTED == 0 {
            run.persisted_count.fetch_add(1, Relaxed);
            let now_us = self.since_start_us(number, at).unwrap_or(0);
            run.last_persisted_us.fetch_max(now_us, Relaxed);
            if self.is_measured(number) {
                note(&run.persisted, self.since_due(number, at));
                let accepted_us = self.accepted_us[number].load(Relaxed);
                // One ack that says both has nothing between.
                if accepted_us > 0 && accepted_us < now_us {
                    note(&run.accepted_to_persisted, Duration::from_micros(now_us - accepted_us));
                }
            }
        }
    }

    /// A definite refusal.
    pub(crate) fn refused(&self, number: usize) {
        if self.states[number].fetch_or(REFUSED, Relaxed) & REFUSED == 0 {
            self.run(self.plan.run_of(number)).refused_count.fetch_add(1, Relaxed);
        }
    }

    /// A person was shown a message.
    pub(crate) fn shown(&self, person: u32, number: usize, event: &Event, at: Instant) {
        let run = self.run(self.plan.run_of(number));
        self.has_seq(number, event.seq);
        if !event.content.as_deref().is_some_and(|content| self.plan.is_content(number, content)) {
            run.altered_count.fetch_add(1, Relaxed);
        }
        self.shown[number].fetch_add(1, Relaxed);
        run.shown_count.fetch_add(1, Relaxed);
        if self.is_measured(number) && person != self.plan.sends[number].1 {
            note(&run.screen, self.since_due(number, at));
        }
    }

    /// A frame came out of place, in the run that is under way.
    pub(crate) fn anomaly(&self, kind: Anomaly) {
        let Some(run) = self.current() else { return };
        let count = match kind {
            Anomaly::Repeated => &run.repeated_count,
            Anomaly::Late => &run.late_count,
            Anomaly::Gap => &run.gap_count,
        };
        count.fetch_add(1, Relaxed);
    }

    /// The run that began last.
    pub(crate) fn current(&self) -> Option<&Run> {
        let run = self.starts.iter().rposition(|start| start.get().is_some())?;
        Some(self.run(run))
    }

    fn has_seq(&self, number: usize, seq: i64) {
        if seq == 0 {
            return;
        }
        if let Err(earlier) = self.seqs[number].compare_exchange(0, seq, Relaxed, Relaxed)
            && earlier != seq
        {
            // The same message at two places.
            self.run(self.plan.run_of(number)).repeated_count.fetch_add(1, Relaxed);
        }
    }

    /// Whether every message of a run has its final answer and has come everywhere.
    pub(crate) fn is_complete(&self, run: usize) -> bool {
        let (sizes, run) = (&self.plan.sizes, self.run(run));
        let (persisted, refused) = (run.persisted_count.load(Relaxed), run.refused_count.load(Relaxed));
        persisted + refused >= sizes.messages_per_run as u64
            && run.shown_count.load(Relaxed) >= persisted * sizes.members as u64
    }

    /// What went wrong in a run, once nothing more is expected.
    pub(crate) fn faults(&self, run: usize) -> Faults {
        let (plan, tally) = (&self.plan, self.run(run));
        let mut faults = Faults {
            repeated: tally.repeated_count.load(Relaxed),
            out_of_order: tally.late_count.load(Relaxed),
            altered: tally.altered_count.load(Relaxed),
            ..Faults::default()
        };
        let mut last_seqs = std::collections::HashMap::new();
        let first = run * plan.sizes.messages_per_run;
        for number in first..first + plan.sizes.messages_per_run {
            let (state, shown) = (self.states[number].load(Relaxed), u64::from(self.shown[number].load(Relaxed)));
            let members = plan.sizes.members as u64;
            if state & (ACCEPTED | PERSISTED) != 0 && state & REFUSED == 0 {
                faults.lost += members.saturating_sub(shown);
            }
            faults.repeated += shown.saturating_sub(members);
            faults.unanswered += u64::from(state & (PERSISTED | REFUSED) == 0);
            let seq = self.seqs[number].load(Relaxed);
            if seq > 0 && last_seqs.insert(plan.sends[number], seq).is_some_and(|earlier| earlier > seq) {
                faults.out_of_order += 1;
            }
        }
        faults
    }

    /// Numbers of messages of a run that not everybody has, with how many have them.
    pub(crate) fn missing(&self, run: usize) -> impl Iterator<Item = (usize, u16)> {
        let first = run * self.plan.sizes.messages_per_run;
        let numbers = first..first + self.plan.sizes.messages_per_run;
        let members = self.plan.sizes.members as u16;
        numbers.filter_map(move |number| {
            let shown = self.shown[number].load(Relaxed);
            (shown < members && self.states[number].load(Relaxed) & REFUSED == 0).then_some((number, shown))
        })
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
