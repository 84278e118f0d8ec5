//! The I/O around a [`Session`]: one task a client, which connects, reads, writes, and comes back.
//!
//! ```text
//!   Client (handle) ──commands──▶ task ◀──frames──▶ socket
//!                                  │ ▲
//!                     observations │ │ Session (pure)
//!                                  ▼
//!                                Sink
//! ```
//!
//! *Progress.* The session outlives its connections: cursors, marks and commands without a final answer go on with the
//! next one. *Failure.* Close codes are taken as the contract has them; everything else reconnects with backoff.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::command::Command;
use super::connection;
use super::observation::{Channel, Observed, Sink};
use super::sync::{Receipts, Start};

/// Orders that may wait for a client's task.
const ORDERS: usize = 1_024;

/// Gives tokens: asked at each connect, and when the server says that one is about to expire.
pub type TokenSource = Arc<dyn Fn() -> String + Send + Sync>;

/// Where and as whom a client connects, and how it behaves.
#[derive(Clone)]
pub struct Options {
    /// The gateway: `http://host:port` or `https://host`.
    pub url: String,
    /// The person.
    pub user_id: String,
    /// The person's tokens.
    pub token: TokenSource,
    /// Where chats begin for which there is no cursor.
    pub start: Start,
    /// Marks sent by itself.
    pub receipts: Receipts,
    /// Whether `receipt` frames are observed; else they aren't even read.
    pub observe_receipts: bool,
    /// First and longest pause between tries to connect, in milliseconds.
    pub backoff_ms: (u64, u64),
}

impl Options {
    /// A new device with one token, which sends delivered marks.
    pub fn new(url: impl Into<String>, user_id: impl Into<String>, token: impl Into<String>) -> Self {
        let token: String = token.into();
        Self {
            url: url.into(),
            user_id: user_id.into(),
            token: Arc::new(move || token.clone()),
            start: Start::default(),
            receipts: Receipts::default(),
            observe_receipts: false,
            backoff_ms: (200, 10_000),
        }
    }

    /// The same, from the beginning of each chat.
    pub fn from_the_beginning(mut self) -> Self {
        self.start = Start::Beginning;
        self
    }
}

/// What a client stands at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Connected, and all chats announced.
    pub is_in_step: bool,
    /// Commands without a final answer.
    pub pending: usize,
    /// Each chat, its cursor, and the highest `seq` that the client knows of.
    pub chats: Vec<(Arc<str>, i64, i64)>,
}

impl Snapshot {
    /// A chat's cursor.
    pub fn cursor(&self, chat_id: &str) -> Option<i64> {
        self.chats.iter().find(|(id, ..)| **id == *chat_id).map(|(_, cursor, _)| *cursor)
    }
}

/// What a handle asks of its task.
pub(crate) enum Order {
    Command(Command),
    Read(Arc<str>, i64),
    Raw(String),
    Reset,
    Snapshot(oneshot::Sender<Snapshot>),
    Close,
}

/// A running client. Dropping it pulls its cable, for good; [`Client::close`] leaves in peace.
#[derive(Debug)]
pub struct Client {
    orders: Sender,
    task: JoinHandle<()>,
}

/// The sending half of a client; clones speak for the same client.
#[derive(Debug, Clone)]
pub struct Sender {
    user_id: Arc<str>,
    orders: mpsc::Sender<Order>,
}

/// Starts a client that tells `sink` everything.
pub fn spawn(options: Options, sink: impl Sink) -> Client {
    let (orders, inbox) = mpsc::channel(ORDERS);
    let user_id: Arc<str> = options.user_id.as_str().into();
    let task = tokio::spawn(connection::run(options, sink, inbox));
    Client { orders: Sender { user_id, orders }, task }
}

/// Starts a client whose observations come out of a bounded channel: read it, or the client waits.
pub fn connect(options: Options) -> (Client, mpsc::Receiver<Observed>) {
    let (sink, receiver) = mpsc::channel(ORDERS);
    (spawn(options, Channel(sink)), receiver)
}

impl Client {
    /// The sending half.
    pub fn sender(&self) -> &Sender {
        &self.orders
    }

    /// Closes the connection as a page that is left does, and waits for the end. Commands without a final answer are
    /// told to the sink as unknown (or refused as `never_sent`).
    pub async fn close(mut self) {
        self.orders.order(Order::Close).await;
        if let Err(error) = (&mut self.task).await {
            tracing::error!(error = %error, "a client crashed");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl std::ops::Deref for Client {
    type Target = Sender;

    fn deref(&self) -> &Sender {
        &self.orders
    }
}

impl Sender {
    /// The person.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Takes a command into the outbox. It is sent until it has a final answer, over as many connections as that takes.
    pub async fn command(&self, command: Command) -> Uuid {
        let op_id = command.op_id;
        self.order(Order::Command(command)).await;
        op_id
    }

    /// A plain message; gives its id.
    pub async fn send(&self, chat_id: &Arc<str>, content: impl Into<String>) -> Uuid {
        self.command(Command::send(chat_id, content)).await
    }

    /// The person has read a chat up to `seq`; told to the server with the next marks, and again after a reconnect if it
    /// hasn't heard.
    pub async fn mark_read(&self, chat_id: &Arc<str>, seq: i64) {
        self.order(Order::Read(Arc::clone(chat_id), seq)).await;
    }

    /// Sends a text frame as it is, once, on the present connection; without one it is dropped.
    pub async fn raw(&self, text: impl Into<String>) {
        self.order(Order::Raw(text.into())).await;
    }

    /// Drops the connection without a word, as a cable that is pulled; the client comes back by itself.
    pub async fn reset(&self) {
        self.order(Order::Reset).await;
    }

    /// What the client stands at; empty once it has ended.
    pub async fn snapshot(&self) -> Snapshot {
        let (answer, asked) = oneshot::channel();
        self.order(Order::Snapshot(answer)).await;
        asked.await.unwrap_or_default()
    }

    async fn order(&self, order: Order) {
        // A client that has ended takes nothing any more; its observations have said so.
        let _ = self.orders.send(order).await;
    }
}
