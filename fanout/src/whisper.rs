//! What nodes tell each other over chats' channels: who types, who is connected. Never stored, and nothing depends on it:
//! what Redis doesn't take is gone.

use redis::Pipeline;
use redis::aio::ConnectionManager;
use runtime::Shutdown;
use runtime::retry::Backoff;
use tokio::sync::mpsc;

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
}

impl Whispers {
    pub(crate) fn start(redis: ConnectionManager, shutdown: &Shutdown) -> Self {
        let (queue, queued) = mpsc::channel(QUEUED);
        let life = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = life.begun() => {}
                () = publish(redis, queued) => {}
            }
        });
        Self { queue }
    }

    /// Publishes bytes on a channel, some time, perhaps.
    pub(crate) fn send(&self, channel: String, bytes: Vec<u8>) {
        let _ = self.queue.try_send((channel, bytes));
    }
}

async fn publish(mut redis: ConnectionManager, mut queued: mpsc::Receiver<(String, Vec<u8>)>) {
    let mut batch = Vec::with_capacity(PIPELINE);
    while queued.recv_many(&mut batch, PIPELINE).await > 0 {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for (channel, bytes) in batch.drain(..) {
            pipeline.cmd("SPUBLISH").arg(channel).arg(bytes).ignore();
        }
        // A connection that was lost is noticed by what is sent over it, and there again for the next attempt.
        let mut backoff = Backoff::default();
        for _ in 0..TRIES {
            match pipeline.exec_async(&mut redis).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!(%error, "typing and presence didn't reach the other nodes");
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
    }
}
