//! What the readers of a process have seen together.

use crate::bench::figures::Percentiles;
use crate::bench::ledger::{Latencies, latencies, record};
use crate::bench::schedule::Schedule;

use super::seen::Noted;
use super::{Look, Outcome};

/// Counts, and the run under way.
#[derive(Default)]
pub(super) struct Tally {
    /// Readers that are connected and know their chats up to the end.
    standing: usize,
    closed: u64,
    refused: u64,
    last_refusal: Option<String>,
    /// When readers stood again whose connection had ended, by [`crate::bench::schedule::now_us`].
    returned_us: Vec<u64>,
    run: Option<Run>,
}

struct Run {
    schedule: Schedule,
    latencies: Latencies,
    /// Each delivery, where that was asked for: when it was due, and how long it took.
    each: Option<Vec<(u64, u64)>>,
    received: u64,
    measured: u64,
    bytes: u64,
    repeated: u64,
    out_of_order: u64,
    closed_before: u64,
}

impl Tally {
    /// A run begins.
    pub(super) fn begin(&mut self, schedule: Schedule, keeps_each: bool) {
        self.run = Some(Run {
            schedule,
            latencies: latencies(),
            each: keeps_each.then(Vec::new),
            received: 0,
            measured: 0,
            bytes: 0,
            repeated: 0,
            out_of_order: 0,
            closed_before: self.closed,
        });
    }

    pub(super) fn stands(&mut self, at_us: u64, is_back: bool) {
        self.standing += 1;
        if is_back {
            self.returned_us.push(at_us);
        }
    }

    /// A connection ended.
    pub(super) fn closed(&mut self, was_standing: bool) {
        self.standing -= usize::from(was_standing);
        self.closed += 1;
    }

    /// A handshake was refused, or a frame.
    pub(super) fn refused(&mut self, reason: String) {
        self.refused += 1;
        self.last_refusal = Some(reason);
    }

    /// A message came, in a frame of so many bytes.
    pub(super) fn message(&mut self, (chat, seq): (usize, i64), noted: Noted, bytes: usize, at_us: u64) {
        let Some(run) = &mut self.run else { return };
        match noted {
            Noted::PassedOver => return,
            Noted::Repeated => {
                run.repeated += 1;
                return;
            }
            Noted::OutOfOrder => run.out_of_order += 1,
            Noted::Next => {}
        }
        // One of an earlier run is late, and was counted as lost there.
        let Some(number) = run.schedule.number(chat, seq) else { return };
        run.received += 1;
        run.bytes += bytes as u64;
        if number >= run.schedule.warmup {
            let due_us = run.schedule.due_us(number);
            let took_us = at_us.saturating_sub(due_us);
            run.measured += 1;
            record(&mut run.latencies, took_us);
            if let Some(each) = &mut run.each {
                each.push((due_us, took_us));
            }
        }
    }

    pub(super) fn look(&self) -> Look {
        Look {
            standing: self.standing,
            returned: self.returned_us.len(),
            received: self.run.as_ref().map_or(0, |run| run.received),
            refused: self.refused,
            last_refusal: self.last_refusal.clone(),
        }
    }

    pub(super) fn returned_us(&self) -> &[u64] {
        &self.returned_us
    }

    /// Percentiles of what was due in a span; only of a run that keeps each delivery.
    pub(super) fn within(&self, from_us: u64, to_us: u64) -> Percentiles {
        let mut within = latencies();
        let each = self.run.as_ref().and_then(|run| run.each.as_deref()).unwrap_or_default();
        for (_, took_us) in each.iter().filter(|(due_us, _)| (from_us..to_us).contains(due_us)) {
            record(&mut within, *took_us);
        }
        Percentiles::of_latencies(&within)
    }

    /// What the run has come to.
    pub(super) fn outcome(&self) -> Outcome {
        let Some(run) = &self.run else { return Outcome::default() };
        Outcome {
            latency: Percentiles::of_latencies(&run.latencies),
            received: run.received,
            measured: run.measured,
            frame_bytes: run.bytes.checked_div(run.received).unwrap_or(0),
            repeated: run.repeated,
            out_of_order: run.out_of_order,
            closed_connections: self.closed - run.closed_before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_count_from_their_due_times_once_it_is_warm() {
        let schedule = Schedule { start_us: 1_000_000, ..Schedule::new(1_000.0, 0.002, 0.002, 1, 10) };
        let mut tally = Tally::default();
        tally.begin(schedule, true);
        // Due at 1.000, 1.001, 1.002 and 1.003 s.
        for (seq, at_us) in [(10, 1_000_000), (11, 1_900_000), (12, 1_900_000), (13, 1_007_000), (14, 1_004_000)] {
            tally.message((0, seq), Noted::Next, 600, at_us);
        }
        tally.message((0, 14), Noted::Repeated, 600, 1_004_000);
        let outcome = tally.outcome();
        assert_eq!((outcome.received, outcome.measured, outcome.repeated, outcome.frame_bytes), (4, 2, 1, 600));
        assert!((outcome.latency.max_ms - 5.0).abs() < 0.01, "{outcome:?}");
        let late = tally.within(1_003_000, 1_004_000);
        assert!((late.max_ms - 1.0).abs() < 0.01, "{late:?}");
    }

    #[test]
    fn who_comes_back_is_noted() {
        let mut tally = Tally::default();
        tally.stands(1, false);
        tally.closed(true);
        tally.closed(false);
        tally.stands(7, true);
        assert_eq!((tally.look().standing, tally.returned_us()), (1, &[7][..]));
    }
}
