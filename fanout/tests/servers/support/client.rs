//! A WebSocket client that shows everything it is sent, each frame held against the AsyncAPI document.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client {
    pub socket: WebSocketStream<TcpStream>,
    /// Every text that came, for canaries.
    pub bytes: String,
    pub session_id: String,
    pub epoch: String,
    /// What `presence` said of each person; such frames come when they come and aren't among those that tests expect.
    pub people: HashMap<String, Value>,
    /// Frames with an `id` that were sent though they aren't described, and so have to be refused.
    wrong: HashMap<String, String>,
}

impl Client {
    pub async fn connect(address: &str, token: &str) -> Self {
        Self::connect_with(address, &[("authorization", &format!("Bearer {token}"))], None).await.expect("connected")
    }

    /// Connects with these headers; the receive buffer small, if given.
    pub async fn connect_with(
        address: &str,
        headers: &[(&'static str, &str)],
        buffer: Option<u32>,
    ) -> Result<Self, Error> {
        let mut request = format!("ws://{address}/v1/ws").into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "waltalkie.v1".parse().expect("header"));
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("header"));
        }
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = socket.connect(address.parse().expect("address")).await?;
        let (socket, response) = client_async(request, stream).await?;
        assert!(!format!("{:?}", response.headers()).contains("bearer"), "a token is never echoed");
        Ok(Self {
            socket,
            bytes: String::new(),
            session_id: String::new(),
            epoch: String::new(),
            people: HashMap::new(),
            wrong: HashMap::new(),
        })
    }

    pub async fn ready(&mut self) -> Vec<Value> {
        let hello = self.expect("hello").await;
        hello["session_id"].as_str().expect("session_id").clone_into(&mut self.session_id);
        hello["epoch"].as_str().expect("epoch").clone_into(&mut self.epoch);
        let mut chats = Vec::new();
        loop {
            let page = self.expect("chats").await;
            chats.extend(page["chats"].as_array().expect("chats").clone());
            if page["complete"] == true {
                return chats;
            }
        }
    }

    /// The next frame or the close code.
    pub async fn next(&mut self) -> Result<Value, Option<u16>> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => {
                        self.bytes.push_str(text.as_str());
                        let frame: Value = serde_json::from_str(text.as_str()).expect("JSON");
                        self.check(&frame);
                        if frame["event"] != "presence" {
                            return Ok(frame);
                        }
                        let users = frame["payload"]["users"].as_object().expect("users");
                        self.people.extend(users.iter().map(|(id, state)| (id.clone(), state.clone())));
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let code = frame.map(|frame| frame.code.into());
                        code.map_or(Ok(()), conformance::check_close_code).expect("described");
                        return Err(code);
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err(None),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a frame in time")
    }

    fn check(&self, frame: &Value) {
        conformance::check_server_frame(frame).unwrap_or_else(|fault| panic!("{fault}"));
        let wrong = self.wrong.get(&frame["id"].to_string()).filter(|_| frame["event"] != "error");
        assert!(wrong.is_none(), "answered with {frame} instead of an error: {wrong:?}");
    }

    pub async fn frame(&mut self) -> Value {
        self.next().await.expect("a frame, not a close")
    }

    /// The payload of the next frame, which must be this event.
    pub async fn expect(&mut self, event: &str) -> Value {
        let frame = self.frame().await;
        assert_eq!(frame["event"], event, "{frame}");
        frame["payload"].clone()
    }

    /// The next frame with one of these events.
    pub async fn find(&mut self, events: &[&str]) -> Value {
        loop {
            let frame = self.frame().await;
            if events.iter().any(|event| frame["event"] == *event) {
                return frame;
            }
        }
    }

    pub async fn closed(&mut self) -> Option<u16> {
        loop {
            if let Err(code) = self.next().await {
                return code;
            }
        }
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        let frame: Value = serde_json::from_str(&text).unwrap_or_default();
        if let (false, Err(fault)) = (frame["id"].is_null(), conformance::check_client_frame(&frame)) {
            self.wrong.insert(frame["id"].to_string(), fault);
        }
        self.socket.send(Message::text(text)).await.expect("sent");
    }

    pub async fn resume(&mut self, cursors: &[(&str, i64)]) {
        let cursors: serde_json::Map<String, Value> =
            cursors.iter().map(|(chat_id, seq)| ((*chat_id).to_owned(), json!(seq))).collect();
        self.send(json!({"event": "resume", "id": "r", "payload": {"cursors": cursors, "epoch": self.epoch}})).await;
    }

    /// Asks for heads; whatever was queued before comes first, so this is a fence.
    pub async fn fence(&mut self) -> Vec<Value> {
        self.send(json!({"event": "heartbeat"})).await;
        let mut before = Vec::new();
        loop {
            let frame = self.frame().await;
            if frame["event"] == "heads" {
                return before;
            }
            before.push(frame);
        }
    }
}

/// `event seq` of each frame, ranges as `skipped from-to`.
pub fn summary(frame: &Value) -> String {
    let payload = &frame["payload"];
    let event = frame["event"].as_str().expect("event");
    match payload["seq"].as_i64() {
        Some(seq) => format!("{event} {seq}"),
        None => format!("{event} {}-{}", payload["from_seq"], payload["to_seq"]),
    }
}
