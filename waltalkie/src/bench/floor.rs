//! The floor: a WebSocket server in this process that echoes each message to its chat's members from memory, with the
//! same frames, for the same clients. What a message takes here, it takes on any way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use schemas::wire::client::{ClientFrame, Limits, SendMessage, parse};
use schemas::wire::{ServerEvent, server};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::plan::Plan;

/// Frames that may wait for one connection; it is dropped beyond.
const QUEUE: usize = 4_096;

struct Chat {
    head: i64,
    members: Vec<mpsc::Sender<Utf8Bytes>>,
}

struct Shared {
    chats: HashMap<Arc<str>, Mutex<Chat>>,
    /// Which chats a person is in.
    chats_of: HashMap<String, Vec<Arc<str>>>,
}

/// A running floor; it ends with its runtime.
pub(crate) struct Floor {
    pub(crate) url: String,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Floor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Floor {
    /// Starts on a free port, with threads of its own, so that its CPU time can be told apart.
    pub(crate) fn start(plan: &Plan, threads: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("floor")
            .enable_all()
            .build()
            .context("the floor's threads can't be started")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("the floor finds no port")?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut chats_of: HashMap<String, Vec<Arc<str>>> = HashMap::new();
        for (chat_id, members) in plan.chat_ids.iter().zip(&plan.members) {
            for person in members {
                chats_of.entry(plan.people[*person as usize].clone()).or_default().push(Arc::clone(chat_id));
            }
        }
        let chats = plan.chat_ids.iter().map(|id| (Arc::clone(id), Mutex::new(Chat { head: 0, members: Vec::new() })));
        let shared = Arc::new(Shared { chats: chats.collect(), chats_of });
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Ok(Self { url, runtime: Some(runtime) })
    }
}

#[allow(clippy::result_large_err, reason = "the callback's type is the library's")]
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let mut user_id = String::new();
    let greet = |request: &Request, mut response: Response| {
        let offered =
            request.headers().get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A person's token is their id here.
        let token = offered.split(", ").find_map(|protocol| protocol.strip_prefix("bearer."));
        token.unwrap_or_default().clone_into(&mut user_id);
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("waltalkie.v1"));
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4_096).write_buffer_size(4_096);
    let Ok(socket) = tokio_tungstenite::accept_hdr_async_with_config(stream, greet, Some(config)).await else { return };
    let (mut writer, mut reader) = socket.split();
    let (queue, mut frames) = mpsc::channel::<Utf8Bytes>(QUEUE);
    if enter(&shared, &user_id, &queue).is_none() {
        return;
    }
    let writing = async {
        while let Some(frame) = frames.recv().await {
            writer.feed(Message::Text(frame)).await?;
            while let Ok(frame) = frames.try_recv() {
                writer.feed(Message::Text(frame)).await?;
            }
            writer.flush().await?;
        }
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    let reading = async {
        while let Some(Ok(message)) = reader.next().await {
            if let Message::Text(text) = message {
                answer(&shared, &user_id, &queue, &text);
            }
        }
    };
    tokio::select! {
        biased;
        _ = writing => {}
        () = reading => {}
    }
}

/// Greets a person and lets their chats' messages come.
fn enter(shared: &Shared, user_id: &str, queue: &mpsc::Sender<Utf8Bytes>) -> Option<()> {
    let hello = json!({ "session_id": user_id, "user_id": user_id, "heartbeat_ms": 5_000, "epoch": "floor" });
    queue.try_send(server::frame(ServerEvent::Hello, None, hello).into()).ok()?;
    let mut entries = Vec::new();
    for chat_id in shared.chats_of.get(user_id)? {
        let mut chat = shared.chats.get(chat_id)?.lock().unwrap_or_else(PoisonError::into_inner);
        chat.members.push(queue.clone());
        entries.push(json!({ "chat_id": &**chat_id, "head_seq": chat.head, "delivered_seq": 0, "read_seq": 0 }));
    }
    queue.try_send(server::frame(ServerEvent::Chats, None, json!({ "chats": entries, "complete": true })).into()).ok()
}

fn answer(shared: &Shared, user_id: &str, queue: &mpsc::Sender<Utf8Bytes>, text: &str) {
    let Ok(request) = parse(text, &Limits::default()) else { return };
    let id = request.id.as_ref();
    match request.frame {
        ClientFrame::SendMessage(send) => echo(shared, user_id, queue, id, &send),
        ClientFrame::Heartbeat { .. } => drop(queue.try_send(server::frame(ServerEvent::Heads, id, json!({})).into())),
        _ => drop(queue.try_send(server::ack(id, None, None, "accepted", None).into())),
    }
}

fn echo(shared: &Shared, user_id: &str, queue: &mpsc::Sender<Utf8Bytes>, id: Option<&Value>, send: &SendMessage) {
    let Some(chat) = shared.chats.get(send.chat_id.as_str()) else { return };
    let message_id = send.message_id.to_string();
    let ack = |state, seq| Utf8Bytes::from(server::ack(id, Some(&send.chat_id), Some(&message_id), state, seq));
    let _ = queue.try_send(ack("accepted", None));
    let mut chat = chat.lock().unwrap_or_else(PoisonError::into_inner);
    chat.head += 1;
    let seq = chat.head;
    let payload = json!({
        "chat_id": send.chat_id, "seq": seq, "message_id": message_id, "message_seq": seq, "sender_id": user_id,
        "actor_id": user_id, "content": send.content, "attachments": [], "file": null, "parent_message_id": null,
        "parent_seq": null, "app_data": null, "created_at": "2026-01-01T00:00:00.000Z", "edited_at": null,
        "deleted_at": null,
    });
    let frame: Utf8Bytes = server::frame(ServerEvent::Message, None, payload).into();
    for member in &chat.members {
        let _ = member.try_send(frame.clone());
    }
    let _ = queue.try_send(ack("persisted", Some(seq)));
}
