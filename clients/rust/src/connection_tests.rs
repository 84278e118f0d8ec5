//! Clients against a server that follows a script, over real sockets.

use serde_json::Value;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

use super::*;
use crate::{Client, connect};

struct Server {
    listener: TcpListener,
}

struct Peer {
    socket: WebSocketStream<TcpStream>,
}

impl Server {
    async fn start() -> (Self, Client, mpsc::Receiver<Observed>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let options = Options { backoff_ms: (1, 2), ..Options::new(url, "alice", "a-token") };
        let (client, seen) = connect(options);
        (Self { listener }, client, seen)
    }

    /// Takes the next connection and greets it.
    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        #[allow(clippy::result_large_err, reason = "the callback's type is the library's")]
        let check = |request: &tungstenite::handshake::server::Request,
                     mut response: tungstenite::handshake::server::Response| {
            assert_eq!(request.uri().path(), "/v1/ws");
            assert_eq!(request.headers()[SEC_WEBSOCKET_PROTOCOL], "waltalkie.v1, bearer.a-token");
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("waltalkie.v1"));
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, check).await.unwrap();
        let mut peer = Peer { socket };
        let hello = json!({ "session_id": "s", "user_id": "alice", "heartbeat_ms": 60_000, "epoch": "e" });
        peer.send(json!({ "event": "hello", "payload": hello })).await;
        let chat = json!({ "chat_id": "c1", "head_seq": 4, "delivered_seq": 4, "read_seq": 4 });
        peer.send(json!({ "event": "chats", "payload": { "chats": [chat], "complete": true } })).await;
        peer
    }
}

impl Peer {
    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame of an event.
    async fn next(&mut self, event: &str) -> Value {
        while let Some(Ok(message)) = self.socket.next().await {
            if let Message::Text(text) = message {
                let frame: Value = serde_json::from_str(&text).unwrap();
                if frame["event"] == event {
                    return frame;
                }
            }
        }
        panic!("the client is gone before {event}");
    }

    async fn close(mut self, code: u16) {
        let _ = self.socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
        while let Some(Ok(_)) = self.socket.next().await {}
    }
}

async fn until(seen: &mut mpsc::Receiver<Observed>, is_it: impl Fn(&Observation) -> bool) -> Observation {
    while let Some(observed) = seen.recv().await {
        if is_it(&observed.what) {
            return observed.what;
        }
    }
    panic!("the client has ended");
}

#[tokio::test]
async fn sends_survive_connections_with_the_same_ids_in_order() {
    let (server, alice, mut seen) = Server::start().await;
    let mut peer = server.accept().await;
    let chat_id: Arc<str> = "c1".into();
    let (first, second) = (alice.send(&chat_id, "one").await, alice.send(&chat_id, "two").await);
    for id in [first, second] {
        assert_eq!(peer.next("send_message").await["payload"]["message_id"], json!(id));
    }
    peer.send(json!({ "event": "ack", "id": first, "payload": { "state": "accepted" } })).await;
    until(&mut seen, |what| matches!(what, Observation::Accepted { .. })).await;
    drop(peer);
    until(&mut seen, |what| matches!(what, Observation::Closed { code: None })).await;
    let mut peer = server.accept().await;
    for id in [first, second] {
        assert_eq!(peer.next("send_message").await["payload"]["message_id"], json!(id));
        peer.send(json!({ "event": "ack", "id": id, "payload": { "state": "persisted", "seq": 5 } })).await;
    }
    until(&mut seen, |what| *what == Observation::Persisted { op_id: second, seq: Some(5) }).await;
    let snapshot = alice.snapshot().await;
    assert_eq!((snapshot.is_in_step, snapshot.pending, snapshot.cursor("c1")), (true, 0, Some(4)));
}

#[tokio::test]
async fn close_codes_and_resets_are_followed() {
    let (server, alice, mut seen) = Server::start().await;
    for code in [1_001, 4_001, 4_008, 4_101] {
        server.accept().await.close(code).await;
        until(&mut seen, |what| *what == Observation::Closed { code: Some(code) }).await;
    }
    let mut peer = server.accept().await;
    until(&mut seen, |what| *what == Observation::InStep).await;
    alice.reset().await;
    while let Some(Ok(_)) = peer.socket.next().await {}
    // A drained node names the time to come back; the client leaves by itself.
    let mut peer = server.accept().await;
    peer.send(json!({ "event": "reconnect", "payload": { "after_ms": 5 } })).await;
    while let Some(Ok(_)) = peer.socket.next().await {}
    server.accept().await.close(4_102).await;
    until(&mut seen, |what| *what == Observation::Closed { code: Some(4_102) }).await;
    assert!(seen.recv().await.is_none(), "it stays away");
}

#[tokio::test]
async fn what_has_no_answer_at_the_end_is_told() {
    let (server, alice, mut seen) = Server::start().await;
    let mut peer = server.accept().await;
    let op_id: Uuid = alice.send(&"c1".into(), "one").await;
    peer.next("send_message").await;
    alice.raw(r#"{"event":"nonsense"}"#).await;
    peer.next("nonsense").await;
    let refusal = json!({ "code": "unknown_event", "message": "?", "temporary": false });
    peer.send(json!({ "event": "error", "payload": refusal })).await;
    let error = until(&mut seen, |what| matches!(what, Observation::Error { .. })).await;
    assert!(matches!(error, Observation::Error { code, .. } if code == "unknown_event"));
    let leaving = tokio::spawn(alice.close());
    while let Some(Ok(_)) = peer.socket.next().await {}
    leaving.await.unwrap();
    until(&mut seen, |what| *what == Observation::Unknown { op_id }).await;
}

#[tokio::test]
async fn a_refused_handshake_is_tried_again() {
    let (server, _alice, mut seen) = Server::start().await;
    let (mut stream, _) = server.listener.accept().await.unwrap();
    let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy";
    tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
    let failed = until(&mut seen, |what| matches!(what, Observation::ConnectFailed { .. })).await;
    assert!(matches!(failed, Observation::ConnectFailed { status: Some(503), .. }));
    let _peer = server.accept().await;
    until(&mut seen, |what| *what == Observation::InStep).await;
}
