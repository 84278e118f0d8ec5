//! One run: messages handed out when they are due, whatever the system does, then the wait for all that is expected.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::crowd::Crowd;
use super::ledger::Ledger;
use super::processes::{Usage, Watch};
use waltalkie_client::Command;

/// How often the progress is drawn and the end looked for.
const LOOK: Duration = Duration::from_millis(20);
/// Between setting the clock and the first message.
const LEAD: Duration = Duration::from_millis(100);

/// What a run took, beside what the ledger knows.
pub(crate) struct Ran {
    /// From the first measured message's due time to the end of the sending.
    pub(crate) measured: Duration,
    /// From the end of the sending to the last delivery, or the deadline.
    pub(crate) drained: Duration,
    pub(crate) usage: Usage,
}

/// Sends one run's messages and waits until all have come, at most `patience`.
pub(crate) async fn run(
    ledger: &Arc<Ledger>,
    crowd: &Crowd,
    number: usize,
    warmup: usize,
    patience: Duration,
    watch: &mut Watch,
    progress: &ProgressBar,
) -> Ran {
    let count = ledger.plan.sizes.messages_per_run;
    let first = number * count;
    progress.set_length(count as u64);
    progress.set_position(0);
    ledger.start(number, Instant::now() + LEAD);
    let sending = send(ledger, crowd, first..first + count);
    tokio::pin!(sending);
    let warm_at = ledger.due(first + warmup).unwrap_or_else(Instant::now);
    let mut look = tokio::time::interval(LOOK);
    let mut is_warm = false;
    loop {
        tokio::select! {
            biased;
            () = &mut sending => break,
            _ = look.tick() => {
                if !is_warm && Instant::now() >= warm_at {
                    is_warm = true;
                    watch.begin();
                }
                watch.look();
                show(ledger, number, progress);
            }
        }
    }
    let sent_at = Instant::now();
    while !ledger.is_complete(number) && sent_at.elapsed() < patience {
        look.tick().await;
        watch.look();
        show(ledger, number, progress);
    }
    Ran { measured: sent_at.saturating_duration_since(warm_at), drained: sent_at.elapsed(), usage: watch.end() }
}

async fn send(ledger: &Ledger, crowd: &Crowd, numbers: std::ops::Range<usize>) {
    let plan = &ledger.plan;
    for number in numbers {
        if let Some(due) = ledger.due(number)
            && due > Instant::now()
        {
            tokio::time::sleep_until(due.into()).await;
        }
        let (chat, person) = plan.sends[number];
        let command = Command::send_as(plan.message_id(number), &plan.chat_ids[chat as usize], plan.content(number));
        // A full client waits here, and so do those after it; their due times don't.
        crowd.clients[person as usize].command(command).await;
        ledger.sent(number, Instant::now());
    }
}

fn show(ledger: &Ledger, number: usize, progress: &ProgressBar) {
    let run = ledger.run(number);
    progress.set_position(run.sent_count.load(Relaxed));
    let on_their_way = run.sent_count.load(Relaxed).saturating_sub(run.persisted_count.load(Relaxed));
    let p95_us = run.screen.lock().map_or(0, |screen| screen.value_at_quantile(0.95));
    progress.set_message(format!("p95 {:.1} ms, {on_their_way} on their way", p95_us as f64 / 1_000.0));
}
