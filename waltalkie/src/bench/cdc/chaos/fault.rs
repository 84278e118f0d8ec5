//! Which faults there are, and how one is drawn.

use std::fmt;
use std::time::Duration;

use cdc_worker::failpoint::Point;
use cdc_worker::victim::{Deed, Order};
use rand::Rng;
use rand::rngs::StdRng;

/// What is done to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// SIGKILL; another process takes its place.
    Kill,
    /// SIGSTOP, and SIGCONT after a while.
    Stop,
    /// Its connections are reset, and come back.
    Cut(Side),
    /// Its connections are reset and refused for a while.
    Refuse(Side),
    /// Its connections are half open for a while.
    Silence(Side),
}

/// Which connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Postgres,
    Kafka,
    Both,
}

/// When it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Wherever the worker is after a while.
    After(Duration),
    /// At a passing of a point, by whichever worker streams.
    At(Point, u64),
}

/// A fault that is to be suffered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) when: When,
    /// How long it lasts, or how long a killed one's place stays empty.
    pub(super) lasts: Duration,
}

impl Plan {
    pub(super) fn draw(random: &mut StdRng) -> Self {
        let side = [Side::Postgres, Side::Kafka, Side::Both][random.random_range(0..3)];
        let kind = match random.random_range(0..10) {
            0..4 => Kind::Kill,
            4..6 => Kind::Stop,
            6..8 => Kind::Cut(side),
            8 => Kind::Refuse(side),
            _ => Kind::Silence(side),
        };
        let when = if random.random_bool(0.6) {
            let point = Point::ALL[random.random_range(0..Point::ALL.len())];
            let most = match point {
                Point::Fencing => 1,
                Point::Row => 2_000,
                _ => 20,
            };
            When::At(point, random.random_range(1..=most))
        } else {
            When::After(Duration::from_millis(random.random_range(0..1_000)))
        };
        // Below and above the lease's 1.1 s; now and then above the transaction's 10 s.
        let longest_ms = if random.random_bool(0.05) { 13_000 } else { 4_000 };
        Self { kind, when, lasts: Duration::from_millis(random.random_range(0..longest_ms)) }
    }

    /// The order to a worker, if it is to be at a point.
    pub(super) fn order(&self) -> Option<Order> {
        let When::At(point, passing) = self.when else { return None };
        Some(Order { point, passing, deed: if self.kind == Kind::Kill { Deed::Kill } else { Deed::Wait } })
    }
}

impl Kind {
    /// The name under which hits are counted.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed",
            Self::Stop => "stopped",
            Self::Cut(_) => "cut",
            Self::Refuse(_) => "refused",
            Self::Silence(_) => "silenced",
        }
    }

    pub(super) const fn side(self) -> Option<Side> {
        match self {
            Self::Kill | Self::Stop => None,
            Self::Cut(side) | Self::Refuse(side) | Self::Silence(side) => Some(side),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.kind.name())?;
        match self.kind.side() {
            Some(Side::Postgres) => write!(out, " from Postgres")?,
            Some(Side::Kafka) => write!(out, " from Kafka")?,
            Some(Side::Both) => write!(out, " from both")?,
            None => {}
        }
        if matches!(self.kind, Kind::Stop | Kind::Refuse(_) | Kind::Silence(_)) {
            write!(out, " for {:.1} s", self.lasts.as_secs_f64())?;
        }
        match self.when {
            When::At(point, passing) => write!(out, " at {}:{passing}", point.name()),
            When::After(_) => Ok(()),
        }
    }
}
