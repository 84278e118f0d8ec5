//! What follows from both looks: the lag, and what is wrong. Without I/O.

use super::log::Seen;
use super::server::Look;
use super::{Lag, LagKind};
use crate::lsn::Lsn;

/// Unpublished WAL that is worth a word while a worker streams.
const LAG_BYTES: u64 = 1 << 30;
/// The same of time.
const LAG_MS: i64 = 30_000;
/// A position older than this while the server moves on: an idle slot's is written every 10 s.
const STALE_MS: i64 = 30_000;
/// WAL kept for the slot that is worth a word.
const RETAINED_BYTES: u64 = 4 << 30;

/// Both looks at the server, and what Kafka showed between them.
pub(super) struct Views<'a> {
    pub(super) slot: &'a str,
    pub(super) first: &'a Look,
    pub(super) last: &'a Look,
    pub(super) log: Option<&'a Seen>,
}

impl Views<'_> {
    /// Up to where everything is published, as far as that is known.
    fn published(&self) -> Option<Lsn> {
        let stored = self.log.and_then(|log| log.position.as_ref());
        let stored = stored.map(|position| Lsn::from_bits(position.confirmable_lsn));
        stored.or_else(|| self.last.slot.as_ref().map(|slot| slot.confirmed_flush_lsn))
    }

    /// WAL after that; none if nothing says where publishing begins.
    pub(super) fn lag_bytes(&self) -> u64 {
        let end = self.last.system.flush_lsn;
        end.bytes_since(self.published().unwrap_or(end))
    }

    /// WAL that the server keeps for the slot.
    pub(super) fn retained_bytes(&self) -> u64 {
        let restart = self.last.slot.as_ref().and_then(|slot| slot.restart_lsn);
        restart.map_or(0, |restart| self.last.system.flush_lsn.bytes_since(restart))
    }

    pub(super) fn last_event_age_ms(&self) -> Option<i64> {
        let newest = self.log?.newest_event_ms?;
        Some((self.last.now_ms - newest).max(0))
    }

    /// How long commits wait; see [`LagKind`].
    pub(super) fn lag(&self) -> Option<Lag> {
        self.lag_of(self.log?)
    }

    fn lag_of(&self, log: &Seen) -> Option<Lag> {
        if let Some(after) = log.covered_after {
            return Some(Lag { ms: after.as_millis() as i64, is: LagKind::Measured });
        }
        if self.is_idle(log) {
            return Some(Lag { ms: 0, is: LagKind::Idle });
        }
        self.last_event_age_ms().map(|ms| Lag { ms, is: LagKind::AtMost })
    }

    /// Whether one worker had everything at the first look and made nothing of it.
    fn is_idle(&self, log: &Seen) -> bool {
        let has_all = self.last.sent().is_some_and(|sent| sent >= self.first.system.flush_lsn);
        self.is_one_worker() && has_all && !log.has_moved && !log.has_open
    }

    /// Whether the same connection streamed at both looks.
    fn is_one_worker(&self) -> bool {
        self.last.pid().is_some() && self.last.pid() == self.first.pid()
    }

    /// How long commits wait, if that is too long. A bound by an event of long ago says nothing while rows that are no
    /// events, changes of people, are published.
    fn long_wait_ms(&self) -> Option<i64> {
        let log = self.log.filter(|log| self.is_one_worker() && (log.events > 0 || !log.has_moved))?;
        let at_most = |lag: &Lag| lag.is == LagKind::AtMost && lag.ms > LAG_MS;
        self.lag_of(log).filter(at_most).map(|lag| lag.ms)
    }
}

/// What is wrong, beside what would make a worker refuse.
pub(super) fn of(views: &Views<'_>) -> Vec<String> {
    let mut problems = streaming(views);
    problems.extend(wal(views));
    let stored = views.log.and_then(|log| log.position.as_ref());
    if stored.is_some_and(|stored| stored.resnapshot_until_lsn.is_some()) && views.last.lease.is_some() {
        problems.push(
            "the history is being completed from the tables by `waltalkie cdc resnapshot`, which holds the lease; workers \
             stand by until it is done"
                .into(),
        );
    }
    problems
}

/// Who should stream and doesn't, or does and shouldn't, or is slow.
fn streaming(views: &Views<'_>) -> Vec<String> {
    let Views { slot, first, last, log } = views;
    let mut problems = Vec::new();
    let waiting = || format!("{} bytes of WAL wait", views.lag_bytes());
    match (&last.lease, last.pid()) {
        (None, None) => problems.push(format!(
            "no worker holds the lease and nobody streams slot {slot}; {}: start one with `waltalkie run cdc`",
            waiting()
        )),
        (None, Some(pid)) if first.lease.is_none() && first.pid() == Some(pid) => problems.push(format!(
            "process {pid} of the server streams slot {slot} for somebody who doesn't hold the lease: a worker that was \
             stopped, or another program. Start a worker, which ends it: `waltalkie run cdc`"
        )),
        (Some(lease), None) if first.lease.is_some() && first.pid().is_none() && last.slot.is_some() => {
            problems.push(format!(
                "worker {} holds the lease but doesn't stream; {}. It is starting, or starting over again and again: see its log",
                lease.holder,
                waiting()
            ));
        }
        _ => {}
    }
    if last.pid().is_some() {
        if views.lag_bytes() > LAG_BYTES {
            problems.push(format!(
                "the worker is behind: {}. See waltalkie_cdc_publish_seconds and the worker's log for whether Kafka is slow; \
                 one large or long transaction of any database can be the reason too",
                waiting()
            ));
        }
        if let Some(ms) = views.long_wait_ms() {
            problems.push(format!(
                "commits wait up to {} s to be published, although a worker streams: see its log, and whether Kafka is slow",
                ms / 1_000
            ));
        }
        let written_at = log.and_then(|log| log.position.as_ref()).map(|position| position.written_at);
        if written_at.is_some_and(|written_at| runtime::clock::now_ms() - written_at > STALE_MS) {
            problems.push("the stored position hasn't moved for 30 s; see the worker's log".into());
        }
    }
    problems
}

/// WAL that the server keeps, or soon doesn't any more.
fn wal(views: &Views<'_>) -> Vec<String> {
    let (slot, retained) = (views.slot, views.retained_bytes());
    let mut problems = Vec::new();
    let Some(facts) = &views.last.slot else { return problems };
    if facts.wal_status == "unreserved" {
        problems.push(format!(
            "slot {slot} is past max_slot_wal_keep_size: the server gives it up at its next checkpoint. Let a worker stream it \
             now, or raise that setting and reload"
        ));
    } else if let Some(left) = views.last.safe_wal_bytes.filter(|left| *left < retained as i64) {
        problems.push(format!(
            "more than half of max_slot_wal_keep_size is used: after {left} bytes more of WAL the server may give slot {slot} up. \
             Let a worker stream it, or raise that setting"
        ));
    }
    if retained > RETAINED_BYTES {
        problems.push(format!(
            "{} MB of WAL are kept for slot {slot}: watch the disk. While nothing lags, a long transaction keeps them: look for \
             the oldest xact_start in pg_stat_activity",
            retained >> 20
        ));
    }
    problems
}
