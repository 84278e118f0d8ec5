//! Questions that only a server ready for work answers. Plain sockets where that is all it takes.

use std::net::Ipv4Addr;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Why a server is not ready, for the message if it never gets so.
pub(crate) type NotYet = String;

/// Redis answers PONG; while it loads it answers something else.
pub(crate) async fn redis(port: u16) -> Result<(), NotYet> {
    let answer = ask(port, b"PING\r\n", 7).await?;
    if answer == "+PONG\r\n" { Ok(()) } else { Err(format!("answered {answer:?}")) }
}

/// A GET on the loopback is answered 200.
pub(crate) async fn http(port: u16, path: &str) -> Result<(), NotYet> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
    let status = ask(port, request.as_bytes(), 12).await?;
    if status == "HTTP/1.1 200" { Ok(()) } else { Err(format!("answered {status:?}")) }
}

/// `PostgreSQL` answers a query.
pub(crate) async fn postgres(config: &tokio_postgres::Config) -> Result<(), NotYet> {
    let ask = async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let query = async {
            // Dropping the client at the end of this block ends the connection, which then resolves.
            let client = client;
            client.simple_query("SELECT 1").await.map(drop)
        };
        let (answer, _) = tokio::join!(query, connection);
        answer
    };
    ask.await.map_err(|error: tokio_postgres::Error| chain(&error))
}

/// The broker answers with metadata that names itself.
pub(crate) async fn kafka(port: u16) -> Result<(), NotYet> {
    // A client is made only once somebody listens: it would complain in the log meanwhile.
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| error.to_string())?;
    let ask = move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", format!("127.0.0.1:{port}"))
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create()?;
        consumer.fetch_metadata(None, Duration::from_secs(2)).map(|metadata| metadata.brokers().len())
    };
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(0)) => Err("no broker in the metadata yet".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// Sends `question` and reads the first `length` bytes of the answer.
async fn ask(port: u16, question: &[u8], length: usize) -> Result<String, NotYet> {
    let exchange = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(question).await?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    exchange.await.map_err(|error| error.to_string())
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn answering(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 256];
            let _ = stream.read(&mut question).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn only_the_right_answer_is_ready() {
        redis(answering(b"+PONG\r\n").await).await.unwrap();
        let error = redis(answering(b"-LOADING Redis is loading\r\n").await).await.unwrap_err();
        assert!(error.contains("LOADING") || error.contains("-LOADIN"), "{error}");
        http(answering(b"HTTP/1.1 200 OK\r\n\r\n").await, "/x").await.unwrap();
        assert!(http(answering(b"HTTP/1.1 503 Nope\r\n\r\n").await, "/x").await.unwrap_err().contains("503"));
        assert!(redis(answering(b"").await).await.is_err());
    }
}
