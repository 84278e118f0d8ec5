//! The bench's end of the readers' process.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use indicatif::ProgressBar;

use super::{Connect, Look, Order, Outcome};
use crate::bench::figures::Percentiles;
use crate::bench::helper::Helper;
use crate::bench::schedule::Schedule;

/// How long nothing may move while something is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(20);

/// Readers in a process of their own. Dropped, they are gone.
pub(crate) struct Readers {
    helper: Helper,
    /// How many were asked for.
    count: usize,
}

impl Readers {
    pub(crate) fn start() -> Result<Self> {
        Ok(Self { helper: Helper::start("readers")?, count: 0 })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.helper.pid()
    }

    /// Makes readers and waits until they are in step.
    pub(crate) async fn connect(&mut self, connect: Connect, bar: &ProgressBar) -> Result<()> {
        self.count += connect.tokens.len();
        let all = self.count;
        self.helper.ask::<()>(&Order::Connect(connect)).await?;
        bar.set_length(all as u64);
        self.until("readers in step", bar, |look| (look.standing as u64, all as u64)).await.map(drop)
    }

    /// Waits until all of something is there; fails once nothing has moved for a while. When it was seen.
    pub(crate) async fn until(
        &mut self,
        what: &str,
        bar: &ProgressBar,
        count: impl Fn(&Look) -> (u64, u64),
    ) -> Result<Instant> {
        let (mut before, mut moved_at) = (0, Instant::now());
        loop {
            let look = self.look().await?;
            let (now, all) = count(&look);
            bar.set_position(now);
            if now >= all {
                return Ok(Instant::now());
            }
            if now > before {
                (before, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() > PATIENCE {
                let last = look.last_refusal.unwrap_or_else(|| "nothing was refused".to_owned());
                bail!(
                    "{now} of {all} {what} and then nothing for {} s; {} refusals, the last: {last}",
                    PATIENCE.as_secs(),
                    look.refused
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A run begins; with `keeps_each`, [`Self::within`] can be asked.
    pub(crate) async fn begin(&mut self, schedule: Schedule, keeps_each: bool) -> Result<()> {
        self.helper.ask(&Order::Begin { schedule, keeps_each }).await
    }

    pub(crate) async fn look(&mut self) -> Result<Look> {
        self.helper.ask(&Order::Look).await
    }

    pub(crate) async fn outcome(&mut self) -> Result<Outcome> {
        self.helper.ask(&Order::Outcome).await
    }

    /// When readers stood again whose connection had ended, in order.
    pub(crate) async fn returned_us(&mut self) -> Result<Vec<u64>> {
        self.helper.ask(&Order::Returned).await
    }

    /// Percentiles of what was due in a span.
    pub(crate) async fn within(&mut self, from_us: u64, to_us: u64) -> Result<Percentiles> {
        self.helper.ask(&Order::Within { from_us, to_us }).await
    }
}
