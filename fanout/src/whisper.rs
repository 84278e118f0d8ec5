//! What nodes tell each other over chats' channels: who types, who is connected. Never stored, and nothing depends on it:
//! what Redis doesn't take is gone, and presence is told anew then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::Pipeline;
use runtime::Shutdown;
use runtime::redis::Commands;
use runtime::retry::Backoff;
use tokio::sync::mpsc;

use crate::metrics;

/// Messages that may wait; more are dropped.
const QUEUED: usize = 4_096;
/// Messages in one pipeline.
const PIPELINE: usize = 256;
/// Times that a pipeline is sent.
const TRIES: usize = 3;

/// The sending end. Clones send to the same queue.
#[derive(Clone)]
pub(crate) struct Whispers {
    queue: mpsc::Sender<(String, Vec<u8>)>,
    has_lost: Arc<AtomicBool>,
}

impl Whispers {
    pub(crate) fn start(redis: Commands, shutdown: &Shutdown) -> Self {
        let (queue, queued) = mpsc::channel(QUEUED);
        let has_lost = Arc::<AtomicBool>::default();
        let (life, losses) = (shutdown.clone(), Arc::clone(&has_lost));
        shutdown.spawn(async move {
            tokio::select! {
                () = life.begun() => {}
                () = publish(redis, queued, &losses) => {}
            }
        });
        Self { queue, has_lost }
    }

    /// Publishes bytes on a channel, some time, perhaps.
    pub(crate) fn send(&self, channel: String, bytes: Vec<u8>) {
        if self.queue.try_send((channel, bytes)).is_err() {
            lose(1, &self.has_lost);
        }
    }

    /// Whether something was lost since this was last asked.
    pub(crate) fn take_losses(&self) -> bool {
        self.has_lost.swap(false, Ordering::Relaxed)
    }
}

fn lose(count: usize, has_lost: &AtomicBool) {
    ::metrics::counter!(metrics::LOST_WHISPERS).increment(count as u64);
    has_lost.store(true, Ordering::Relaxed);
}

async fn publish(mut redis: Commands, mut queued: mpsc::Receiver<(String, Vec<u8>)>, has_lost: &AtomicBool) {
    let mut batch = Vec::with_capacity(PIPELINE);
    while queued.recv_many(&mut batch, PIPELINE).await > 0 {
        let count = batch.len();
        let mut pipeline = Pipeline::with_capacity(count);
        for (channel, bytes) in batch.drain(..) {
            pipeline.cmd("SPUBLISH").arg(channel).arg(bytes).ignore();
        }
        // A connection that was lost is noticed by what is sent over it, and there again for the next attempt.
        let mut backoff = Backoff::default();
        let mut tries = 1;
        while let Err(error) = pipeline.exec_async(&mut redis).await {
            tracing::debug!(%error, tries, "typing and presence didn't reach the other nodes");
            if tries == TRIES {
                lose(count, has_lost);
                break;
            }
            tries += 1;
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }
}
