//! From a URL to a connection that takes replication commands.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::{backend, frontend};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_postgres::config::{ChannelBinding, Host, SslMode};
use tokio_postgres::fallible_iterator::FallibleIterator;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use runtime::postgres::Server;

use super::auth;
use super::error::{ReplicationError, STARTING, ServerError};
use super::stream::ReplicationStream;
use super::timeline::{self, Switch};
use crate::lsn::Lsn;

/// Longest that one command takes, and one host of a URL that sets no `connect_timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Anything that carries bytes both ways.
pub(super) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A transport, and what was read from it and not yet understood.
pub(super) struct Channel {
    pub(super) transport: Box<dyn Transport>,
    pub(super) buffer: BytesMut,
}

impl Channel {
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), ReplicationError> {
        self.transport.write_all(bytes).await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// The next message other than notices and settings.
    pub(super) async fn receive(&mut self) -> Result<backend::Message, ReplicationError> {
        loop {
            match backend::Message::parse(&mut self.buffer)? {
                Some(backend::Message::NoticeResponse(_) | backend::Message::ParameterStatus(_)) => {}
                Some(message) => return Ok(message),
                None => self.fill().await?,
            }
        }
    }

    pub(super) async fn fill(&mut self) -> Result<(), ReplicationError> {
        match self.transport.read_buf(&mut self.buffer).await? {
            0 => Err(ReplicationError::Ended),
            _ => Ok(()),
        }
    }
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Identity of the cluster, given when its data directory was made.
    pub identifier: String,
    /// Timeline, which a promoted standby changes.
    pub timeline: i32,
    /// WAL is on disk up to here.
    pub flush_lsn: Lsn,
}

/// A connection that takes replication commands.
pub struct Connection {
    channel: Channel,
}

impl Connection {
    /// Connects and logs in, trying the hosts of the URL in turn. A host that is a standby is passed over, whether the
    /// URL's `target_session_attrs` asks for that or not: what it decodes isn't promised to stay.
    pub async fn open(config: &Server) -> Result<Self, ReplicationError> {
        if config.get_channel_binding() == ChannelBinding::Require {
            // What asks for it asks for protection that isn't there.
            return Err(ReplicationError::Settings(
                "channel_binding=require can't be had on a replication connection: take it out, or where \
                 postgres.truth_url has it set postgres.replication_url to the same server without it",
            ));
        }
        match Self::try_hosts(config).await {
            Err(ReplicationError::Io(error)) => {
                Err(ReplicationError::Connect { place: runtime::postgres::place(config), source: error.into() })
            }
            outcome => outcome,
        }
    }

    async fn try_hosts(config: &Server) -> Result<Self, ReplicationError> {
        let mut last = ReplicationError::Settings("it names no host");
        for (number, host) in config.get_hosts().iter().enumerate() {
            let ports = config.get_ports();
            let port = ports.get(number).or_else(|| ports.first()).copied().unwrap_or(5432);
            // A host that doesn't answer at all must leave time for the others.
            let patience = config.get_connect_timeout().copied().unwrap_or(PATIENCE);
            match tokio::time::timeout(patience, Self::connect_to_primary(host, port, config)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = error,
                Err(_) => last = std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            }
        }
        Err(last)
    }

    async fn connect_to_primary(host: &Host, port: u16, config: &Server) -> Result<Self, ReplicationError> {
        let mut connection = Self::connect_to(host, port, config).await?;
        let rows = connection.query("SELECT pg_is_in_recovery()", "to say whether it is a standby").await?;
        match rows.first().and_then(|row| row.first()?.as_deref()) {
            Some("f") => Ok(connection),
            _ => Err(ReplicationError::Standby { place: runtime::postgres::place(config) }),
        }
    }

    async fn connect_to(host: &Host, port: u16, config: &Server) -> Result<Self, ReplicationError> {
        let transport: Box<dyn Transport> = match host {
            Host::Tcp(name) => {
                let stream = TcpStream::connect((name.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                encrypt(stream, name, config).await?
            }
            #[cfg(unix)]
            Host::Unix(folder) => Box::new(UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?),
        };
        let user = config.get_user().ok_or(ReplicationError::Settings("it names no user"))?;
        let database = config.get_dbname().unwrap_or(user);
        let mut connection = Self { channel: Channel { transport, buffer: BytesMut::with_capacity(8 << 10) } };
        let mut startup = BytesMut::new();
        // Settings of the URL's `options`, such as `-c logical_decoding_work_mem=1GB`, are the session's.
        let options = config.get_options().map(|options| ("options", options));
        let parameters = [
            ("user", user),
            ("database", database),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
            ("application_name", "waltalkie-cdc"),
        ];
        frontend::startup_message(parameters.into_iter().chain(options), &mut startup)?;
        connection.channel.send(&startup).await?;
        auth::log_in(&mut connection.channel, user, config.get_password()).await?;
        connection.until_ready("the session").await?;
        Ok(connection)
    }

    /// `IDENTIFY_SYSTEM`.
    pub async fn identify(&mut self) -> Result<System, ReplicationError> {
        let rows = self.query("IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM").await?;
        let strange = || ReplicationError::Protocol(format!("IDENTIFY_SYSTEM answers {rows:?}"));
        let [row] = rows.as_slice() else { return Err(strange()) };
        let text = |index: usize| row.get(index).and_then(Option::as_deref).ok_or_else(strange);
        Ok(System {
            identifier: text(0)?.to_owned(),
            timeline: text(1)?.parse().map_err(|_| strange())?,
            flush_lsn: text(2)?.parse().map_err(|_| strange())?,
        })
    }

    /// `TIMELINE_HISTORY`: where each earlier timeline ended for this server. The first timeline has no history.
    pub async fn timeline_history(&mut self, timeline: i32) -> Result<Vec<Switch>, ReplicationError> {
        const WHAT: &str = "TIMELINE_HISTORY";
        let rows = self.query(&format!("{WHAT} {timeline}"), WHAT).await?;
        let content = rows.first().and_then(|row| row.get(1)?.as_deref()).unwrap_or_default();
        timeline::switches(content).map_err(|line| ReplicationError::Protocol(format!("{WHAT} has the line `{line}`")))
    }

    /// Starts the slot's stream at an LSN, or where the slot was confirmed, whichever is later.
    pub async fn start(self, slot: &str, publication: &str, from: Lsn) -> Result<ReplicationStream, ReplicationError> {
        self.start_as("proto_version '1'", slot, publication, from).await
    }

    /// The same with large transactions in pieces while they are open, which only measurements want: rows have the
    /// transaction's id before the table's, and may never be committed.
    pub async fn start_streaming(
        self,
        slot: &str,
        publication: &str,
        from: Lsn,
    ) -> Result<ReplicationStream, ReplicationError> {
        self.start_as("proto_version '2', streaming 'on'", slot, publication, from).await
    }

    async fn start_as(
        mut self,
        protocol: &str,
        slot: &str,
        publication: &str,
        from: Lsn,
    ) -> Result<ReplicationStream, ReplicationError> {
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {from} ({protocol}, publication_names {}, binary 'true', messages 'true')",
            quoted_name(slot),
            // A list of names: each quoted as a name, the whole as a text.
            quoted_text(&quoted_name(publication)),
        );
        let patience = tokio::time::timeout(PATIENCE, self.enter_copy(&command)).await;
        patience.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        Ok(ReplicationStream::new(self.channel))
    }

    async fn enter_copy(&mut self, command: &str) -> Result<(), ReplicationError> {
        const COPY_BOTH: u8 = b'W';
        let mut query = BytesMut::new();
        frontend::query(command, &mut query)?;
        self.channel.send(&query).await?;
        loop {
            // The parser doesn't know this one tag.
            let buffer = &mut self.channel.buffer;
            if let Some(header) = backend::Header::parse(buffer)?
                && header.tag() == COPY_BOTH
            {
                let length = header.len() as usize + 1;
                if buffer.len() >= length {
                    bytes::Buf::advance(buffer, length);
                    return Ok(());
                }
            } else if let Some(message) = backend::Message::parse(buffer)? {
                match message {
                    backend::Message::NoticeResponse(_) | backend::Message::ParameterStatus(_) => continue,
                    backend::Message::ErrorResponse(body) => {
                        return Err(ReplicationError::Server { what: STARTING, source: ServerError::read(&body) });
                    }
                    _ => return Err(ReplicationError::Protocol("START_REPLICATION has an unexpected answer".into())),
                }
            }
            self.channel.fill().await?;
        }
    }

    async fn query(&mut self, sql: &str, what: &'static str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        let mut query = BytesMut::new();
        frontend::query(sql, &mut query)?;
        self.channel.send(&query).await?;
        let patience = tokio::time::timeout(PATIENCE, self.until_ready(what)).await;
        patience.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }

    async fn until_ready(&mut self, what: &'static str) -> Result<Vec<Vec<Option<String>>>, ReplicationError> {
        let mut rows = Vec::new();
        loop {
            match self.channel.receive().await? {
                backend::Message::ReadyForQuery(_) => return Ok(rows),
                backend::Message::DataRow(body) => {
                    let buffer = body.buffer();
                    let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&buffer[range]).into_owned();
                    rows.push(body.ranges().map(|range| Ok(range.map(text))).collect()?);
                }
                backend::Message::ErrorResponse(body) => {
                    return Err(ReplicationError::Server { what, source: ServerError::read(&body) });
                }
                _ => {}
            }
        }
    }
}

/// TLS as the URL's `sslmode` wants it; `prefer` asks nothing of a server on this machine.
async fn encrypt(mut stream: TcpStream, host: &str, server: &Server) -> Result<Box<dyn Transport>, ReplicationError> {
    let mode = server.get_ssl_mode();
    let is_local = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    if mode == SslMode::Disable || (mode == SslMode::Prefer && is_local) {
        return Ok(Box::new(stream));
    }
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => {}
        _ if mode == SslMode::Prefer => return Ok(Box::new(stream)),
        _ => {
            return Err(ReplicationError::Settings(
                "sslmode=require asks for TLS and the server has none: set ssl = on there",
            ));
        }
    }
    let mut maker = MakeRustlsConnect::new(server.tls());
    let connector = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, host)
        .map_err(|_| ReplicationError::Settings("its host is no name that a certificate could have"))?;
    match connector.connect(stream).await {
        Ok(encrypted) => Ok(Box::new(encrypted)),
        Err(source) if runtime::tls::is_certificate_error(&source) => {
            Err(ReplicationError::Untrusted { place: runtime::postgres::place(server), source: Box::new(source) })
        }
        Err(source) => Err(std::io::Error::other(source).into()),
    }
}

fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quoted_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use runtime::Secret;

    use super::*;

    #[tokio::test]
    async fn a_url_that_wants_channel_binding_is_refused_before_anybody_is_asked() {
        let url = "postgres://u:secret@127.0.0.1:1/chat?sslmode=require&channel_binding=require";
        let server = runtime::postgres::parse(&Secret::new(url), "postgres.truth_url").expect("a URL");
        let Err(error) = Connection::open(&server).await else { panic!("it connects") };
        assert!(!error.is_transient() && error.to_string().contains("channel_binding=require"), "{error}");
    }
}
