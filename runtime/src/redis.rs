//! Connections to Redis: a manager for commands, and a subscriber that says when it may have missed something.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisError, Value,
};
use tokio::sync::mpsc;

use crate::config::Secret;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;

/// Messages that wait to be read from one subscriber before new ones are dropped and the loss is reported.
const SUBSCRIBER_QUEUE: usize = 65_536;
/// Changes of subscriptions that wait to be made.
const CHANGE_QUEUE: usize = 16_384;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client for a URL; RESP3, since messages of subscriptions come as pushes.
pub fn client(url: &Secret) -> Result<Client, RedisError> {
    let info = url.expose().into_connection_info()?;
    let redis = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    // Commands are small and wait for their answers: Nagle's algorithm would hold them back.
    let tcp = TcpSettings::default().set_nodelay(true);
    Client::open(info.set_redis_settings(redis).set_tcp_settings(tcp))
}

/// A connection for commands that reconnects by itself. Making it never waits: the first command does.
pub fn manager(url: &Secret) -> Result<ConnectionManager, RedisError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(Duration::from_secs(5)))
        .set_number_of_retries(3)
        .set_max_delay(Duration::from_millis(500));
    ConnectionManager::new_lazy_with_config(client(url)?, config)
}

/// What a subscriber hears.
#[derive(Debug)]
pub enum Heard {
    /// A message on a channel.
    Message {
        /// Channel it came on.
        channel: String,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// The channel is subscribed from here on.
    Subscribed(String),
    /// The connection was lost, or messages were dropped because nobody read them: anything may be missing on any
    /// channel up to the [`Heard::Subscribed`] that follows for each of them.
    Lost,
}

enum Change {
    Subscribe(String),
    Unsubscribe(String),
}

/// Asks a subscriber for more or fewer channels.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    changes: mpsc::Sender<Change>,
}

impl Subscriptions {
    /// Subscribes a channel; [`Heard::Subscribed`] says when it is so.
    pub async fn subscribe(&self, channel: String) {
        // The receiver ends only with the process.
        let _ = self.changes.send(Change::Subscribe(channel)).await;
    }

    /// Unsubscribes a channel; messages under way may still come.
    pub async fn unsubscribe(&self, channel: String) {
        let _ = self.changes.send(Change::Unsubscribe(channel)).await;
    }
}

/// Starts a subscriber of sharded channels that reconnects for ever, subscribing all its channels again.
pub fn subscriber(client: Client, shutdown: &Shutdown) -> (Subscriptions, mpsc::Receiver<Heard>) {
    let (heard, hearing) = mpsc::channel(SUBSCRIBER_QUEUE);
    let (changes, changing) = mpsc::channel(CHANGE_QUEUE);
    let life = shutdown.clone();
    shutdown.spawn(async move { Subscriber { client, heard, changing, channels: HashSet::new() }.run(life).await });
    (Subscriptions { changes }, hearing)
}

struct Subscriber {
    client: Client,
    heard: mpsc::Sender<Heard>,
    changing: mpsc::Receiver<Change>,
    channels: HashSet<String>,
}

impl Subscriber {
    async fn run(mut self, shutdown: Shutdown) {
        let mut backoff = Backoff::default();
        while !shutdown.has_begun() && !self.heard.is_closed() {
            let outcome = tokio::select! {
                biased;
                () = shutdown.begun() => return,
                outcome = self.connected(&mut backoff) => outcome,
            };
            if let Err(error) = outcome {
                tracing::warn!(error = %error, "the subscriber lost Redis and connects again");
            }
            if self.heard.send(Heard::Lost).await.is_err() || !shutdown.pause(backoff.next_pause()).await {
                return;
            }
        }
    }

    /// One connection's life. Returns when it is lost, or when nobody asks or hears any more.
    async fn connected(&mut self, backoff: &mut Backoff) -> Result<(), RedisError> {
        let (pushes, mut pushed) = mpsc::channel::<PushInfo>(SUBSCRIBER_QUEUE);
        let has_dropped = Arc::new(AtomicBool::new(false));
        let drops = Arc::clone(&has_dropped);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(Duration::from_secs(10)))
            .set_push_sender(move |push| {
                pushes.try_send(push).inspect_err(|_| {
                    drops.store(true, Ordering::Relaxed);
                })
            });
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        for channel in &self.channels {
            ssubscribe(&mut connection, channel).await?;
            // Each answer is a push itself: they mustn't pile up however many channels there are.
            while let Ok(push) = pushed.try_recv() {
                if let Some(heard) = heard_of(push)
                    && self.heard.send(heard).await.is_err()
                {
                    return Ok(());
                }
            }
        }
        backoff.reset();
        let mut ping = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                biased;
                change = self.changing.recv() => match change {
                    None => return Ok(()),
                    Some(Change::Subscribe(channel)) => {
                        self.channels.insert(channel.clone());
                        ssubscribe(&mut connection, &channel).await?;
                    }
                    Some(Change::Unsubscribe(channel)) => {
                        self.channels.remove(&channel);
                        redis::cmd("SUNSUBSCRIBE").arg(&channel).exec_async(&mut connection).await?;
                    }
                },
                push = pushed.recv() => {
                    let Some(push) = push else { return Ok(()) };
                    match heard_of(push) {
                        None => {}
                        Some(Heard::Lost) => return Ok(()),
                        Some(heard) => {
                            if self.heard.send(heard).await.is_err() {
                                return Ok(());
                            }
                        }
                    }
                    if has_dropped.load(Ordering::Relaxed) {
                        tracing::warn!("messages came faster than they were read; some were dropped");
                        return Ok(());
                    }
                }
                _ = ping.tick() => redis::cmd("PING").exec_async(&mut connection).await?,
            }
        }
    }
}

async fn ssubscribe(connection: &mut MultiplexedConnection, channel: &str) -> Result<(), RedisError> {
    redis::cmd("SSUBSCRIBE").arg(channel).exec_async(connection).await
}

fn heard_of(push: PushInfo) -> Option<Heard> {
    let mut parts = push.data.into_iter();
    match push.kind {
        PushKind::SMessage => {
            let channel = text_of(parts.next()?)?;
            match parts.next()? {
                Value::BulkString(payload) => Some(Heard::Message { channel, payload }),
                _ => None,
            }
        }
        PushKind::SSubscribe => Some(Heard::Subscribed(text_of(parts.next()?)?)),
        PushKind::Disconnection => Some(Heard::Lost),
        _ => None,
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
