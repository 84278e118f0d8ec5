//! A subscriber's line to one server: connects once, subscribes what it is told to, ends at the first trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{AsyncConnectionConfig, Client, Pipeline, PushInfo, RedisError};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(5);
/// Changes in one pipeline.
const AT_ONCE: usize = 500;

/// One of a subscriber's lines; a new one has another number.
pub(super) type LineId = u64;

#[derive(Debug)]
pub(super) enum Order {
    Subscribe(String),
    Unsubscribe(String),
}

/// Where lines put what they hear, and their end.
#[derive(Clone)]
pub(super) struct Ears {
    pub(super) pushes: mpsc::Sender<(LineId, PushInfo)>,
    /// Set when a push found no room.
    pub(super) has_dropped: Arc<AtomicBool>,
    pub(super) ended: mpsc::Sender<LineId>,
}

/// A line's near end. Dropped, the connection closes.
pub(super) struct Line {
    /// Holds a change a channel at most, and those of the seconds that a dead connection may take to be noticed.
    orders: mpsc::UnboundedSender<Order>,
    unconfirmed: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Line {
    /// With how many confirmations may be on their way: at least those of one pipeline.
    pub(super) fn open(id: LineId, client: Client, ears: Ears, unconfirmed: usize) -> Self {
        let (orders, ordered) = mpsc::unbounded_channel();
        let unconfirmed = Arc::new(Semaphore::new(unconfirmed.max(AT_ONCE)));
        let permits = Arc::clone(&unconfirmed);
        let task = tokio::spawn(async move {
            let Err(error) = live(id, &client, &ears, ordered, &permits).await else { return };
            tracing::warn!(%error, "the subscriber lost a connection to Redis");
            // Nobody hears it only at the very end.
            let _ = ears.ended.send(id).await;
        });
        Self { orders, unconfirmed, task }
    }

    /// Asks for a change. A line that has ended says so by itself.
    pub(super) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// A confirmation was taken from the queue.
    pub(super) fn confirmed(&self) {
        self.unconfirmed.add_permits(1);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn live(
    id: LineId,
    client: &Client,
    ears: &Ears,
    mut ordered: mpsc::UnboundedReceiver<Order>,
    unconfirmed: &Semaphore,
) -> Result<(), RedisError> {
    let (pushes, has_dropped) = (ears.pushes.clone(), Arc::clone(&ears.has_dropped));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(ANSWER_TIMEOUT))
        .set_push_sender(move |push| {
            pushes.try_send((id, push)).inspect_err(|_| has_dropped.store(true, Ordering::Relaxed))
        });
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut ping = tokio::time::interval(PING_EVERY);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = ordered.recv_many(&mut batch, AT_ONCE) => {
                if count == 0 {
                    return Ok(());
                }
                let mut pipeline = Pipeline::with_capacity(count);
                for order in batch.drain(..) {
                    // A channel at a time: several of one command would have to share a hash slot.
                    match order {
                        Order::Subscribe(channel) => {
                            if let Ok(permit) = unconfirmed.acquire().await {
                                permit.forget();
                            }
                            pipeline.cmd("SSUBSCRIBE").arg(channel).ignore();
                        }
                        Order::Unsubscribe(channel) => {
                            pipeline.cmd("SUNSUBSCRIBE").arg(channel).ignore();
                        }
                    }
                }
                pipeline.exec_async(&mut connection).await?;
            }
            _ = ping.tick() => redis::cmd("PING").exec_async(&mut connection).await?,
        }
    }
}
