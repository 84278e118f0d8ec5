//! A raw WebSocket: frames as they are, nothing mended. What a client must do is left to the test.
//!
//! Each frame is held against the AsyncAPI document: one of the server that isn't described fails the test that waits, as
//! does one of the client's that isn't and is taken all the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, channel};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::wait::SHORT;

/// Frames that may wait for a test.
const WAITING: usize = 10_000;

/// An open connection. Frames are read as they come, so that pings are answered while the test is elsewhere. Dropped, it just
/// ends, without a farewell.
pub struct Socket {
    outgoing: tokio::sync::mpsc::Sender<Message>,
    incoming: Receiver<Incoming>,
    /// Frames that were read while another was looked for, in order.
    unread: VecDeque<Value>,
    next_id: u64,
    /// Frames that were sent though they aren't described, by `id`: they have to be refused.
    wrong: Wrong,
    /// Payload of `hello`.
    pub hello: Value,
    /// Chats as announced, in order.
    pub chats: Vec<Value>,
}

type Wrong = Arc<Mutex<HashMap<String, String>>>;

enum Incoming {
    Frame(Value),
    Closed(Option<u16>),
    /// The server does something that isn't described.
    Fault(String),
}

impl Socket {
    /// Connects as browsers do, the token as a second subprotocol; returns when all chats are announced.
    pub async fn open(base: &str, token: &str) -> Result<Self> {
        let mut socket = Self::handshake(base, token).await?;
        socket.hello = socket.wait("hello", |_| true).await?;
        loop {
            let page = socket.wait("chats", |_| true).await?;
            socket.chats.extend(page["chats"].as_array().into_iter().flatten().cloned());
            if page["complete"] == true {
                return Ok(socket);
            }
        }
    }

    /// The status with which a handshake is refused.
    pub async fn refused(base: &str, protocols: &str, origin: Option<&str>) -> Result<(u16, String)> {
        let mut request = address(base).into_client_request()?;
        if !protocols.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse()?);
        }
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse()?);
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok(_) => bail!("the handshake was taken"),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Ok((answer.status().as_u16(), String::from_utf8_lossy(body).into_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn handshake(base: &str, token: &str) -> Result<Self> {
        let mut request = address(base).into_client_request()?;
        let protocols = format!("waltalkie.v1, bearer.{token}");
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse()?);
        let (stream, answer) = tokio_tungstenite::connect_async(request).await.context("the handshake")?;
        let selected = answer.headers().get("sec-websocket-protocol");
        ensure!(selected.is_some_and(|selected| selected == "waltalkie.v1"), "selected {selected:?}");
        let (mut sink, mut stream) = stream.split();
        let (outgoing, mut to_send) = channel::<Message>(64);
        let (received, incoming) = channel(WAITING);
        let wrong = Wrong::default();
        let sent = Arc::clone(&wrong);
        tokio::spawn(async move {
            while let Some(message) = to_send.recv().await {
                if sink.send(message).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let code = loop {
                let message = tokio::select! {
                    biased;
                    () = received.closed() => return,
                    message = stream.next() => message,
                };
                match message {
                    Some(Ok(Message::Text(text))) => {
                        let frame = serde_json::from_str(&text).unwrap_or_default();
                        let next = check(&frame, &sent).map_or_else(Incoming::Fault, |()| Incoming::Frame(frame));
                        if received.send(next).await.is_err() {
                            return;
                        }
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.map(|frame| frame.code.into());
                        if let Err(fault) = code.map_or(Ok(()), conformance::check_close_code) {
                            let _ = received.send(Incoming::Fault(fault)).await;
                        }
                        break code;
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break None,
                }
            };
            let _ = received.send(Incoming::Closed(code)).await;
        });
        let (unread, chats) = (VecDeque::new(), Vec::new());
        Ok(Self { outgoing, incoming, unread, next_id: 1, wrong, hello: Value::Null, chats })
    }

    /// Sends a frame; gives the id that its answers carry.
    pub async fn send(&mut self, event: &str, payload: Value) -> Result<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let frame = json!({ "event": event, "id": id, "payload": payload });
        if let Err(fault) = conformance::check_client_frame(&frame) {
            self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(frame["id"].to_string(), fault);
        }
        self.send_raw(Message::text(frame.to_string())).await?;
        Ok(id)
    }

    /// Sends anything.
    pub async fn send_raw(&mut self, message: Message) -> Result<()> {
        self.outgoing.send(message).await.context("the connection is closed")
    }

    /// Sends a message and waits until it is persisted; gives its `seq`.
    pub async fn say(&mut self, chat_id: &str, message_id: &str, content: &str) -> Result<i64> {
        let payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": content });
        let id = self.send("send_message", payload).await?;
        self.persisted(id).await
    }

    /// Waits until a command is persisted; gives its `seq`.
    pub async fn persisted(&mut self, id: u64) -> Result<i64> {
        let answer =
            self.answer(id, |frame| frame["event"] == "error" || frame["payload"]["state"] == "persisted").await?;
        ensure!(answer["event"] == "ack", "refused: {answer}");
        answer["payload"]["seq"].as_i64().with_context(|| format!("no seq: {answer}"))
    }

    /// Waits for the refusal of a frame and checks it.
    pub async fn expect_error(&mut self, id: u64, code: &str, field: Option<&str>) -> Result<Value> {
        let answer = self.answer(id, |frame| frame["event"] == "error" || frame["event"] == "ack").await?;
        check_error(&answer, code, field)?;
        Ok(answer["payload"].clone())
    }

    /// Waits for an error that answers a frame without id; gives its text.
    pub async fn expect_bare_error(&mut self, code: &str, field: Option<&str>) -> Result<String> {
        let frame = self.take("an error", |frame| frame["event"] == "error" && frame["id"].is_null()).await?;
        check_error(&frame, code, field)?;
        Ok(frame["payload"]["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits for an answer to a frame.
    pub async fn answer(&mut self, id: u64, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        self.take(&format!("the answer to frame {id}"), |frame| frame["id"] == id && fits(frame)).await
    }

    /// Waits for an event of the server; gives its payload. Other frames stay for later.
    pub async fn wait(&mut self, event: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut frame = self.take(event, |frame| frame["event"] == event && fits(&frame["payload"])).await?;
        Ok(frame["payload"].take())
    }

    /// Frames that came and were not looked at, oldest first, with those that have come by now.
    pub fn unread(&mut self) -> &VecDeque<Value> {
        while let Ok(incoming) = self.incoming.try_recv() {
            match incoming {
                Incoming::Frame(frame) => self.unread.push_back(frame),
                Incoming::Fault(fault) => panic!("{fault}"),
                Incoming::Closed(_) => break,
            }
        }
        &self.unread
    }

    /// Waits for the close; gives its code, none if the connection just broke.
    pub async fn closed(&mut self) -> Result<Option<u16>> {
        let began = Instant::now();
        loop {
            match tokio::time::timeout(SHORT.saturating_sub(began.elapsed()), self.incoming.recv()).await {
                Ok(Some(Incoming::Closed(code))) => return Ok(code),
                Ok(Some(Incoming::Frame(frame))) => self.unread.push_back(frame),
                Ok(Some(Incoming::Fault(fault))) => bail!(fault),
                Ok(None) => return Ok(None),
                Err(_) => bail!("waited {} s for the close", SHORT.as_secs()),
            }
        }
    }

    async fn take(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(place) = self.unread.iter().position(&fits) {
            return self.unread.remove(place).context("it was there");
        }
        let began = Instant::now();
        loop {
            match tokio::time::timeout(SHORT.saturating_sub(began.elapsed()), self.incoming.recv()).await {
                Ok(Some(Incoming::Frame(frame))) if fits(&frame) => return Ok(frame),
                Ok(Some(Incoming::Frame(frame))) => self.unread.push_back(frame),
                Ok(Some(Incoming::Closed(code))) => bail!("closed with {code:?} while waiting for {what}"),
                Ok(Some(Incoming::Fault(fault))) => bail!(fault),
                Ok(None) => bail!("closed while waiting for {what}"),
                Err(_) => bail!("waited {} s for {what}; came: {:?}", SHORT.as_secs(), self.unread),
            }
        }
    }
}

/// Whether a frame of the server is described, and isn't the answer to one that is to be refused.
fn check(frame: &Value, sent: &Wrong) -> Result<(), String> {
    conformance::check_server_frame(frame)?;
    let wrong = sent.lock().unwrap_or_else(PoisonError::into_inner);
    match wrong.get(&frame["id"].to_string()) {
        Some(fault) if frame["event"] != "error" => Err(format!("{frame} instead of an error: {fault}")),
        _ => Ok(()),
    }
}

fn address(base: &str) -> String {
    format!("{}/v1/ws", base.replacen("http", "ws", 1))
}

fn check_error(frame: &Value, code: &str, field: Option<&str>) -> Result<()> {
    let payload = &frame["payload"];
    ensure!(frame["event"] == "error" && payload["code"] == code, "{frame} instead of {code}");
    ensure!(payload["field"].as_str() == field, "{frame} instead of field {field:?}");
    ensure!(payload["message"].as_str().is_some_and(|text| !text.is_empty()), "no text: {frame}");
    ensure!(payload["temporary"].is_boolean(), "no temporary: {frame}");
    Ok(())
}
