//! A subscriber of sharded channels, which says when it may have missed something.
//!
//! *Progress.* Each channel is subscribed on the line to its slot's master; messages of all lines come out of one queue.
//! *Failure.* A line that ends, a push for which there was no room, a channel that the server ended because its slot has
//! moved: [`Heard::Lost`], then who serves what is asked anew, lines are opened, and [`Heard::Subscribed`] follows for each
//! channel, for ever with backoff. Lines that live go on meanwhile.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::{PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::commands::{Commands, commands};
use super::line::{Ears, Line, LineId, Order};
use super::topology::{Address, Topology};
use crate::config;
use crate::retry::Backoff;
use crate::shutdown::Shutdown;

/// Messages that wait to be read from one subscriber before new ones are dropped and the loss is reported.
const QUEUE: usize = 65_536;
/// Changes of subscriptions that wait to be made.
const CHANGE_QUEUE: usize = 16_384;
/// Ends of lines that wait to be taken.
const END_QUEUE: usize = 64;
/// Confirmations that may be on their way: they share a queue with the messages, and mustn't fill it.
const UNCONFIRMED: usize = 8_192;
/// A connection that ends sooner is a sign of trouble: the next ones wait longer and longer.
const LIVED: Duration = Duration::from_secs(10);
/// Between two questions for who serves what, at least.
const SURVEY_PAUSE: Duration = Duration::from_millis(100);

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
    /// A connection was lost, or messages were dropped because nobody read them: anything may be missing on any
    /// channel up to the [`Heard::Subscribed`] that follows for each of them.
    Lost,
}

/// Asks a subscriber for more or fewer channels.
#[derive(Debug, Clone)]
pub struct Subscriptions {
    changes: mpsc::Sender<Order>,
}

impl Subscriptions {
    /// Subscribes a channel; [`Heard::Subscribed`] says when it is so.
    pub async fn subscribe(&self, channel: String) {
        // The receiver ends only with the process.
        let _ = self.changes.send(Order::Subscribe(channel)).await;
    }

    /// Unsubscribes a channel; messages under way may still come.
    pub async fn unsubscribe(&self, channel: String) {
        let _ = self.changes.send(Order::Unsubscribe(channel)).await;
    }
}

/// Starts a subscriber that reconnects for ever, subscribing all its channels again.
pub fn subscriber(
    config: &config::Redis,
    shutdown: &Shutdown,
) -> Result<(Subscriptions, mpsc::Receiver<Heard>), RedisError> {
    let commands = commands(config)?;
    let (heard, hearing) = mpsc::channel(QUEUE);
    let (changes, changing) = mpsc::channel(CHANGE_QUEUE);
    let (pushes, pushed) = mpsc::channel(QUEUE);
    let (ended, ends) = mpsc::channel(END_QUEUE);
    let ears = Ears { pushes, has_dropped: Arc::new(AtomicBool::new(false)), ended };
    let subscriber = Subscriber {
        commands,
        heard,
        ears,
        channels: HashMap::new(),
        lines: HashMap::new(),
        topology: None,
        next_id: 0,
        is_stale: true,
        asking: None,
        backoff: Backoff::default(),
        survey_at: Instant::now(),
    };
    let life = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            biased;
            () = life.begun() => {}
            () = subscriber.run(changing, pushed, ends) => {}
        }
    });
    Ok((Subscriptions { changes }, hearing))
}

struct Subscriber {
    commands: Commands,
    heard: mpsc::Sender<Heard>,
    ears: Ears,
    /// Each channel, and the line that it was asked for on.
    channels: HashMap<String, Option<LineId>>,
    lines: HashMap<LineId, Server>,
    topology: Option<Arc<Topology>>,
    next_id: LineId,
    /// Some channel has no line.
    is_stale: bool,
    /// The question who serves what, while it isn't answered.
    asking: Option<JoinHandle<Survey>>,
    backoff: Backoff,
    survey_at: Instant,
}

/// A server and the line to it.
struct Server {
    address: Address,
    line: Line,
    /// A channel was subscribed on it, so that there is something to lose.
    has_confirmed: bool,
    /// Channels whose end was asked for here, and how often: other ends mean that their slot has moved.
    leaving: HashMap<String, u32>,
    opened: Instant,
}

/// What was answered to the question who serves what.
type Survey = Result<Arc<Topology>, RedisError>;

/// Nobody hears any more.
struct Unheard;

impl Subscriber {
    async fn run(
        mut self,
        mut changing: mpsc::Receiver<Order>,
        mut pushed: mpsc::Receiver<(LineId, PushInfo)>,
        mut ends: mpsc::Receiver<LineId>,
    ) {
        loop {
            let survey_at = self.survey_at;
            let step = tokio::select! {
                // Changes first: they are few, and whoever asked waits. Then messages; the rest has time.
                biased;
                change = changing.recv() => match change {
                    None => return,
                    Some(order) => { self.change(order); Ok(()) }
                },
                Some((id, push)) = pushed.recv() => self.take(id, push).await,
                Some(id) = ends.recv() => self.line_ended(id).await,
                survey = answered(&mut self.asking) => {
                    self.asking = None;
                    self.surveyed(survey);
                    Ok(())
                }
                () = tokio::time::sleep_until(survey_at), if self.is_stale && self.asking.is_none() => {
                    let commands = self.commands.clone();
                    self.asking = Some(tokio::spawn(async move { commands.survey().await }));
                    Ok(())
                }
            };
            if step.is_err() {
                return;
            }
        }
    }

    fn change(&mut self, order: Order) {
        match order {
            Order::Subscribe(channel) => {
                self.place(&channel);
            }
            Order::Unsubscribe(channel) => {
                if let Some(Some(id)) = self.channels.remove(&channel)
                    && let Some(server) = self.lines.get_mut(&id)
                {
                    *server.leaving.entry(channel.clone()).or_default() += 1;
                    server.line.order(Order::Unsubscribe(channel));
                }
            }
        }
    }

    /// Asks for a channel on the line that it belongs to, if there is one.
    fn place(&mut self, channel: &str) {
        let owner = self.topology.as_ref().and_then(|topology| topology.owner(channel.as_bytes()));
        let found = owner.and_then(|owner| self.lines.iter().find(|(_, server)| server.address == *owner));
        let id = found.map(|(id, server)| {
            server.line.order(Order::Subscribe(channel.to_owned()));
            *id
        });
        self.is_stale |= id.is_none();
        self.channels.insert(channel.to_owned(), id);
    }

    async fn take(&mut self, id: LineId, push: PushInfo) -> Result<(), Unheard> {
        if self.ears.has_dropped.load(Ordering::Relaxed) {
            tracing::warn!("messages came faster than they were read; some were dropped");
            self.lines.clear();
            // The lines that are given up may set theirs again.
            self.ears.has_dropped = Arc::default();
            self.orphan();
            return self.lost().await;
        }
        // What a line says that has been given up was reported as lost.
        let Some(server) = self.lines.get_mut(&id) else { return Ok(()) };
        let mut parts = push.data.into_iter();
        let channel = parts.next().and_then(text_of);
        match (push.kind, channel) {
            (PushKind::SMessage, Some(channel)) => {
                if let Some(Value::BulkString(payload)) = parts.next() {
                    self.hear(Heard::Message { channel, payload }).await?;
                }
            }
            (PushKind::SSubscribe, Some(channel)) => {
                server.line.confirmed();
                server.has_confirmed = true;
                if self.channels.get(&channel) == Some(&Some(id)) {
                    self.hear(Heard::Subscribed(channel)).await?;
                }
            }
            (PushKind::SUnsubscribe, Some(channel)) => {
                if let Some(asked) = server.leaving.get_mut(&channel) {
                    *asked -= 1;
                    if *asked == 0 {
                        server.leaving.remove(&channel);
                    }
                } else if self.channels.get(&channel) == Some(&Some(id)) {
                    tracing::info!("a slot has moved to another server");
                    return self.line_ended(id).await;
                }
            }
            (PushKind::Disconnection, _) => return self.line_ended(id).await,
            _ => {}
        }
        Ok(())
    }

    async fn line_ended(&mut self, id: LineId) -> Result<(), Unheard> {
        let Some(server) = self.lines.remove(&id) else { return Ok(()) };
        if server.opened.elapsed() > LIVED {
            self.backoff.reset();
        }
        self.orphan();
        // One that never came so far had nothing to lose: a dead master is tried until another takes its place.
        if server.has_confirmed { self.lost().await } else { Ok(()) }
    }

    /// Channels of lines that are gone have none.
    fn orphan(&mut self) {
        for place in self.channels.values_mut() {
            if place.is_some_and(|id| !self.lines.contains_key(&id)) {
                *place = None;
            }
        }
        self.is_stale = true;
        self.survey_at = Instant::now() + self.backoff.next_pause();
    }

    /// Channels of living lines are as they were, but whoever hears of a loss can't tell which those are.
    async fn lost(&mut self) -> Result<(), Unheard> {
        self.hear(Heard::Lost).await?;
        let living: Vec<String> =
            self.channels.iter().filter(|(_, place)| place.is_some()).map(|(channel, _)| channel.clone()).collect();
        for channel in living {
            self.hear(Heard::Subscribed(channel)).await?;
        }
        Ok(())
    }

    /// Opens lines to those who serve, and places channels that have none.
    fn surveyed(&mut self, survey: Survey) {
        self.survey_at = Instant::now() + self.backoff.next_pause().max(SURVEY_PAUSE);
        let topology = match survey {
            Ok(topology) => topology,
            Err(error) => {
                tracing::warn!(%error, "Redis can't be asked for its servers; asking again");
                return;
            }
        };
        let masters = topology.masters().collect::<HashSet<_>>().len();
        for master in topology.masters() {
            if self.lines.values().any(|server| server.address == *master) {
                continue;
            }
            match self.commands.servers().client(master) {
                Ok(client) => {
                    self.next_id += 1;
                    let line = Line::open(self.next_id, client, self.ears.clone(), UNCONFIRMED / masters);
                    let server = Server {
                        address: master.clone(),
                        line,
                        has_confirmed: false,
                        leaving: HashMap::new(),
                        opened: Instant::now(),
                    };
                    self.lines.insert(self.next_id, server);
                }
                Err(error) => tracing::warn!(%error, %master, "no connection can be made to this server"),
            }
        }
        self.topology = Some(topology);
        self.is_stale = false;
        let homeless = self.channels.iter().filter(|(_, place)| place.is_none());
        for channel in homeless.map(|(channel, _)| channel.clone()).collect::<Vec<_>>() {
            self.place(&channel);
        }
    }

    async fn hear(&self, heard: Heard) -> Result<(), Unheard> {
        self.heard.send(heard).await.map_err(|_| Unheard)
    }
}

/// The answer to the question who serves what; never, if nobody asks.
async fn answered(asking: &mut Option<JoinHandle<Survey>>) -> Survey {
    match asking {
        Some(asking) => asking
            .await
            .unwrap_or_else(|error| Err((redis::ErrorKind::Client, "the question failed", error.to_string()).into())),
        None => std::future::pending().await,
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
