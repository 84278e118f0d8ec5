//! A connection and its handshake.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Connections from one address, well below the ports that it has.
const PER_ADDRESS: usize = 10_000;
/// The longest that it may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_BYTES: usize = 16_384;

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) retry_after: Duration,
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self { reason: error.to_string(), retry_after: Duration::ZERO }
    }
}

/// Connects the reader of a number; also returns what came right behind the answer.
pub(super) async fn dial(url: &str, token: &str, number: usize) -> Result<(TcpStream, Vec<u8>), Refused> {
    match tokio::time::timeout(WITHIN, shake_hands(url, token, number)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

async fn shake_hands(url: &str, token: &str, number: usize) -> Result<(TcpStream, Vec<u8>), Refused> {
    let authority = url.trim_start_matches("http://");
    let to: SocketAddr =
        authority.parse().map_err(|_| io::Error::other(format!("{url} names no IP address and port")))?;
    let socket = TcpSocket::new_v4()?;
    if number >= PER_ADDRESS {
        // More than one address has ports for; all of 127.0.0.0/8 is this machine.
        let from = Ipv4Addr::new(127, 0, 0, 1 + (number / PER_ADDRESS).min(253) as u8);
        socket.bind((from, 0).into())?;
    }
    let mut stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /v1/ws HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: waltalkie.v1, bearer.{token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1_024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if let Some(head) = head_of(&answer) {
            accepted(&answer[..head])?;
            return Ok((stream, answer.split_off(head)));
        }
        if answer.len() > ANSWER_BYTES {
            return Err(io::Error::from(io::ErrorKind::InvalidData).into());
        }
    }
}

/// Length of the answer's head, once it is whole.
fn head_of(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|end| end + 4)
}

fn accepted(head: &[u8]) -> Result<(), Refused> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 101") {
        return Ok(());
    }
    let after_s = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("retry-after").then(|| value.trim().parse().ok()).flatten()
    });
    Err(Refused { reason: status.to_owned(), retry_after: Duration::from_secs(after_s.unwrap_or(0)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_tell_when_to_come_again() {
        assert_eq!(accepted(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"), Ok(()));
        let refused = accepted(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\n").expect_err("no 101");
        assert_eq!(refused.retry_after, Duration::from_secs(2));
        assert!(refused.reason.contains("503"));
    }

    #[test]
    fn what_follows_the_head_is_the_first_frame() {
        assert_eq!(head_of(b"HTTP/1.1 101\r\nx: y\r\n\r\n\x81"), Some(22));
        assert_eq!(head_of(b"HTTP/1.1 101\r\nx: y\r\n"), None);
    }
}
