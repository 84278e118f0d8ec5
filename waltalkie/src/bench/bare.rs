//! The floor: a bare WebSocket server that writes the same bytes to the same sockets from memory, in a process of its own. It
//! asks nobody who may see what, keeps no order, reads no token and nothing again. With nobody to serve it is an echo.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use schemas::wire::client::{ClientFrame, Limits, parse};
use schemas::wire::{ServerEvent, server};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, to_value};
use tokio::sync::mpsc;

use super::audience::{Audience, FIRST_SEQ};
use super::helper::{self, Helper};
use super::schedule::Schedule;

/// Role in accounts.
pub(crate) const ROLE: &str = "floor";
/// Buffers as the gateway has them.
const BUFFER_BYTES: usize = 4_096;
/// Frames that may wait for one connection; it misses its chat's next ones beyond.
const QUEUE: usize = 4_096;
/// Most frames that are handed over before they are flushed, as the gateway has it.
const AT_ONCE: usize = 64;

#[derive(Serialize, Deserialize)]
enum Order {
    /// Whom to serve; without anybody, it echoes. The answer is where it listens.
    Listen(Option<Audience>),
    /// Makes a run's frames.
    Prepare(Schedule),
    /// Sends them when they are due.
    Run(Schedule),
    /// Chats up to a number have come to a `seq`, without anybody being told.
    Move { chats: usize, head: i64 },
}

/// The server. Dropped, it is killed.
pub(crate) struct Bare {
    helper: Helper,
    pub(crate) url: String,
}

impl Bare {
    pub(crate) async fn start(audience: Option<&Audience>) -> Result<Self> {
        let mut helper = Helper::start("bare-server")?;
        let url = helper.ask(&Order::Listen(audience.cloned())).await?;
        Ok(Self { helper, url })
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.helper.pid()
    }

    pub(crate) async fn prepare(&mut self, schedule: Schedule) -> Result<()> {
        self.helper.ask(&Order::Prepare(schedule)).await
    }

    /// Sends a run's frames; returns after the last one.
    pub(crate) async fn run(&mut self, schedule: Schedule) -> Result<()> {
        self.helper.ask(&Order::Run(schedule)).await
    }

    pub(crate) async fn move_heads(&mut self, chats: usize, head: i64) -> Result<()> {
        self.helper.ask(&Order::Move { chats, head }).await
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.helper.kill().await
    }
}

/// The process: takes orders until whoever gives them is gone.
pub(crate) async fn serve() -> Result<()> {
    let server = OnceLock::<Arc<Server>>::new();
    let mut frames: Vec<Utf8Bytes> = Vec::new();
    helper::serve(async |order: Order| -> Result<Value> {
        let serving = || server.get().context("it doesn't listen yet");
        Ok(match order {
            Order::Listen(audience) => {
                let server = server.get_or_init(|| Arc::new(Server::new(audience)));
                to_value(listen(Arc::clone(server)).await?)?
            }
            Order::Prepare(schedule) => {
                let audience = serving()?.audience.as_ref().context("it only echoes")?;
                let frame = |(chat, seq)| Utf8Bytes::from(audience.live_frame(chat, seq));
                frames = (0..schedule.count).map(|number| frame(schedule.place(number))).collect();
                Value::Null
            }
            Order::Run(schedule) => {
                let server = serving()?;
                let mut next = 0;
                while next < schedule.count {
                    let due = schedule.due(next).await;
                    next = due.end;
                    for number in due {
                        server.send(schedule.place(number), &frames[number as usize]);
                    }
                    tokio::task::yield_now().await;
                }
                Value::Null
            }
            Order::Move { chats, head } => {
                for chat in &serving()?.chats[..chats] {
                    chat.head.store(head, Relaxed);
                }
                Value::Null
            }
        })
    })
    .await
}

struct Chat {
    head: AtomicI64,
    members: Mutex<Vec<mpsc::Sender<Utf8Bytes>>>,
}

struct Server {
    audience: Option<Audience>,
    chats: Vec<Chat>,
    /// Chats by person.
    chats_of: Vec<Vec<usize>>,
}

impl Server {
    fn new(audience: Option<Audience>) -> Self {
        let (people, chats) = audience.as_ref().map_or((0, 0), |audience| (audience.people, audience.chats));
        let mut chats_of = vec![Vec::new(); people];
        for (chat, audience) in (0..chats).zip(std::iter::repeat(&audience)) {
            let Some(audience) = audience else { continue };
            for place in 0..audience.members {
                chats_of[audience.member(chat, place)].push(chat);
            }
        }
        let chat = |_| Chat { head: AtomicI64::new(FIRST_SEQ), members: Mutex::default() };
        Self { audience, chats: (0..chats).map(chat).collect(), chats_of }
    }

    fn send(&self, (chat, seq): (usize, i64), frame: &Utf8Bytes) {
        let chat = &self.chats[chat];
        let mut members = chat.members.lock().unwrap_or_else(PoisonError::into_inner);
        chat.head.store(seq, Relaxed);
        // A queue that is full, or whose connection has ended, is let go of.
        members.retain(|member| member.try_send(frame.clone()).is_ok());
    }

    /// `hello` and `chats` for a person, who hears their chats from here on.
    fn enter(&self, user_id: &str, queue: &mpsc::Sender<Utf8Bytes>) -> [Utf8Bytes; 2] {
        let hello = json!({ "session_id": user_id, "user_id": user_id, "heartbeat_ms": 5_000, "epoch": "floor" });
        let mut entries = Vec::new();
        if let Some(audience) = &self.audience {
            let person = Audience::number(user_id.as_bytes()).and_then(|person| self.chats_of.get(person));
            for chat in person.into_iter().flatten() {
                let Chat { head, members } = &self.chats[*chat];
                let mut members = members.lock().unwrap_or_else(PoisonError::into_inner);
                members.push(queue.clone());
                entries.push(json!({
                    "chat_id": audience.chat_id(*chat), "head_seq": head.load(Relaxed), "delivered_seq": 0, "read_seq": 0,
                    "visible": [[FIRST_SEQ, null]],
                }));
            }
        }
        let chats = json!({ "chats": entries, "complete": true });
        [(ServerEvent::Hello, hello), (ServerEvent::Chats, chats)]
            .map(|(event, payload)| server::frame(event, None, payload).into())
    }

    /// What is written in answer to a client's frame.
    fn answers(&self, text: &str) -> Vec<String> {
        let Some(audience) = &self.audience else { return vec![text.to_owned()] };
        let Ok(request) = parse(text, &Limits::default()) else { return Vec::new() };
        let ClientFrame::Resume { cursors, .. } = request.frame else {
            return vec![server::frame(ServerEvent::Heads, None, json!({}))];
        };
        let mut frames = Vec::new();
        for (chat_id, cursor) in cursors {
            let Some(chat) = Audience::number(chat_id.as_bytes()).filter(|chat| *chat < self.chats.len()) else {
                continue;
            };
            let head = self.chats[chat].head.load(Relaxed);
            frames.extend((cursor + 1..=head).map(|seq| audience.old_frame(chat, seq)));
            frames.push(server::resumed(&chat_id, cursor, head, true));
        }
        frames
    }
}

async fn listen(server: Arc<Server>) -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("the floor finds no port")?;
    let url = format!("http://{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let app = Router::new().route("/v1/ws", any(upgrade)).with_state(server);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ok(url)
}

async fn upgrade(State(server): State<Arc<Server>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A person's token is their id here.
    let user_id =
        offered.split(", ").find_map(|protocol| protocol.strip_prefix("bearer.")).unwrap_or_default().to_owned();
    let upgrade = upgrade.read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES).protocols(["waltalkie.v1"]);
    upgrade.on_upgrade(async move |socket| {
        // It ends with its connection, however that ends.
        let _ =
            if server.audience.is_some() { talk(&server, &user_id, socket).await } else { echo(&server, socket).await };
    })
}

/// Greets, then says back whatever it hears.
async fn echo(server: &Server, mut socket: WebSocket) -> Result<(), axum::Error> {
    for frame in server.enter("", &mpsc::channel(1).0) {
        socket.send(Message::Text(frame)).await?;
    }
    while let Some(Ok(message)) = socket.recv().await {
        if let Message::Text(_) = message {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn talk(server: &Server, user_id: &str, socket: WebSocket) -> Result<(), axum::Error> {
    let (mut writer, mut reader) = socket.split();
    let (queue, mut frames) = mpsc::channel::<Utf8Bytes>(QUEUE);
    for frame in server.enter(user_id, &queue) {
        writer.send(Message::Text(frame)).await?;
    }
    let answers = queue.downgrade();
    // Only its chats hold the queue: once all have let go of it, the connection ends.
    drop(queue);
    let writing = async {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while frames.recv_many(&mut batch, AT_ONCE).await > 0 {
            for frame in batch.drain(..) {
                writer.feed(Message::Text(frame)).await?;
            }
            writer.flush().await?;
        }
        Ok::<(), axum::Error>(())
    };
    let reading = async {
        while let Some(Ok(message)) = reader.next().await {
            let (Message::Text(text), Some(queue)) = (message, answers.upgrade()) else { continue };
            for frame in server.answers(&text) {
                let _ = queue.send(frame.into()).await;
            }
        }
    };
    tokio::select! {
        biased;
        done = writing => done,
        () = reading => Ok(()),
    }
}
