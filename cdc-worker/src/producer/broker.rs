//! A connection to one broker: requests out, answers in, in order.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, VersionRange, encode_request_header_into_buffer,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::error::ProduceError;
use super::sasl::{self, Scram};
use super::security::{Login, Mechanism, Security};

/// How long a broker may take to connect, to take bytes or to send some.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Brokers close connections that are idle for ten minutes; one that was idle for so long is made anew instead.
const IDLE: Duration = Duration::from_secs(240);
/// Largest answer that is read.
const MOST_BYTES: usize = 16 << 20;
const CLIENT_ID: &str = "waltalkie";
const TRANSACTION_VERSION: &str = "transaction.version";

trait Transport: Read + Write + Send {}
impl<T: Read + Write + Send> Transport for T {}

/// Which answer belongs to a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    id: i32,
    version: i16,
}

/// A connection that is logged in.
pub(super) struct Broker {
    transport: Box<dyn Transport>,
    place: String,
    next_id: i32,
    out: BytesMut,
    versions: HashMap<i16, VersionRange>,
    transaction_version: i16,
    last_used: Instant,
    logged_in_until: Option<Instant>,
}

impl Broker {
    /// Connects and logs in; blocks.
    pub(super) fn connect(host: &str, port: u16, security: &Security) -> Result<Self, ProduceError> {
        let place = format!("{host}:{port}");
        let failed = |source| ProduceError::Connect { place: place.clone(), source };
        let tcp = connect_tcp(host, port).map_err(failed)?;
        let transport: Box<dyn Transport> = match &security.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
                let tls = ClientConnection::new(Arc::clone(config), name);
                let mut stream = StreamOwned::new(tls.map_err(|error| failed(io::Error::other(error)))?, tcp);
                if let Err(source) = stream.conn.complete_io(&mut stream.sock) {
                    return Err(if runtime::tls::is_certificate_error(&source) {
                        ProduceError::Untrusted { place, source }
                    } else {
                        failed(source)
                    });
                }
                Box::new(stream)
            }
        };
        let mut broker = Self {
            transport,
            place,
            next_id: 0,
            out: BytesMut::new(),
            versions: HashMap::new(),
            transaction_version: 0,
            last_used: Instant::now(),
            logged_in_until: None,
        };
        broker.learn_versions()?;
        if let Some(login) = &security.login {
            broker.log_in(login)?;
        }
        Ok(broker)
    }

    /// Level of the cluster's feature `transaction.version`: from 2 on, producing to a partition takes it into the
    /// transaction (KIP-890).
    pub(super) const fn transaction_version(&self) -> i16 {
        self.transaction_version
    }

    /// Whether it may be closed already, or be closed soon.
    pub(super) fn is_stale(&self) -> bool {
        self.last_used.elapsed() > IDLE || self.logged_in_until.is_some_and(|until| Instant::now() > until)
    }

    /// A request and its answer, in the newest version that both sides know, `most` at most.
    pub(super) fn call<R: Request>(&mut self, request: &R, most: i16) -> Result<R::Response, ProduceError> {
        let awaited = self.send(request, most)?;
        self.receive::<R>(awaited)
    }

    /// Sends a request. Answers come in the order of the requests.
    pub(super) fn send<R: Request>(&mut self, request: &R, most: i16) -> Result<Awaited, ProduceError> {
        let version = self.version::<R>(most)?;
        self.send_as(request, version)
    }

    /// Waits for an answer.
    pub(super) fn receive<R: Request>(&mut self, awaited: Awaited) -> Result<R::Response, ProduceError> {
        let mut answer = self.answer(awaited.id)?;
        let header_version = R::Response::header_version(awaited.version);
        let decoded = ResponseHeader::decode(&mut answer, header_version)
            .and_then(|_| R::Response::decode(&mut answer, awaited.version));
        decoded.map_err(|error| self.strange(format!("{} has an answer that can't be read: {error}", name_of::<R>())))
    }

    /// What the broker's error is of.
    pub(super) fn refused(&self, what: impl Into<String>, answer: ResponseError) -> ProduceError {
        ProduceError::Refused { place: self.place.clone(), what: what.into(), answer }
    }

    pub(super) fn strange(&self, text: impl Into<String>) -> ProduceError {
        ProduceError::Protocol { place: self.place.clone(), text: text.into() }
    }

    fn version<R: Request>(&self, most: i16) -> Result<i16, ProduceError> {
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(most) };
        let theirs = self.versions.get(&R::KEY).copied().unwrap_or(VersionRange { min: 0, max: -1 });
        let both = ours.intersect(&theirs);
        if both.is_empty() {
            return Err(self.strange(format!(
                "versions {} to {} of {} are known here, {} to {} there",
                ours.min,
                ours.max,
                name_of::<R>(),
                theirs.min,
                theirs.max
            )));
        }
        Ok(both.max)
    }

    fn send_as<R: Request>(&mut self, request: &R, version: i16) -> Result<Awaited, ProduceError> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1) & i32::MAX;
        let mut header = RequestHeader::default();
        header.request_api_key = R::KEY;
        header.request_api_version = version;
        header.correlation_id = id;
        header.client_id = Some(StrBytes::from_static_str(CLIENT_ID));
        self.out.clear();
        self.out.extend_from_slice(&[0; 4]);
        let encoded = encode_request_header_into_buffer(&mut self.out, &header)
            .and_then(|()| request.encode(&mut self.out, version));
        encoded.map_err(|error| self.strange(format!("{} can't be written: {error}", name_of::<R>())))?;
        let length = (self.out.len() - 4) as i32;
        self.out[..4].copy_from_slice(&length.to_be_bytes());
        let sent = self.transport.write_all(&self.out).and_then(|()| self.transport.flush());
        sent.map_err(|source| self.broken(source))?;
        self.last_used = Instant::now();
        Ok(Awaited { id, version })
    }

    fn answer(&mut self, id: i32) -> Result<Bytes, ProduceError> {
        let mut length = [0; 4];
        self.transport.read_exact(&mut length).map_err(|source| self.broken(source))?;
        let length = i32::from_be_bytes(length);
        let Some(length) = usize::try_from(length).ok().filter(|length| (4..=MOST_BYTES).contains(length)) else {
            return Err(self.strange(format!("an answer of {length} bytes")));
        };
        let mut answer = vec![0; length];
        self.transport.read_exact(&mut answer).map_err(|source| self.broken(source))?;
        self.last_used = Instant::now();
        let answer = Bytes::from(answer);
        let answered = (&answer[..4]).get_i32();
        if answered != id {
            return Err(self.strange(format!("the answer to request {answered} came instead of the one to {id}")));
        }
        Ok(answer)
    }

    fn learn_versions(&mut self) -> Result<(), ProduceError> {
        let mut request = ApiVersionsRequest::default();
        request.client_software_name = StrBytes::from_static_str(CLIENT_ID);
        request.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
        // Version 4 tells features that begin at 0 too; brokers that don't know it say so in the form of version 0.
        for version in [4, 3] {
            let awaited = self.send_as(&request, version)?;
            let mut answer = self.answer(awaited.id)?;
            if (&answer[4..]).try_get_i16().ok() == Some(ResponseError::UnsupportedVersion.code()) {
                continue;
            }
            type Answer = <ApiVersionsRequest as Request>::Response;
            let told = ResponseHeader::decode(&mut answer, Answer::header_version(version))
                .and_then(|_| Answer::decode(&mut answer, version));
            let told = told.map_err(|error| self.strange(format!("its versions can't be read: {error}")))?;
            if let Some(source) = ResponseError::try_from_code(told.error_code) {
                return Err(self.refused("ApiVersions", source));
            }
            let range = |key: &kafka_protocol::messages::api_versions_response::ApiVersion| VersionRange {
                min: key.min_version,
                max: key.max_version,
            };
            self.versions = told.api_keys.iter().map(|key| (key.api_key, range(key))).collect();
            let level = told.finalized_features.iter().find(|feature| feature.name.as_str() == TRANSACTION_VERSION);
            self.transaction_version = level.map_or(0, |feature| feature.max_version_level);
            return Ok(());
        }
        Err(self.strange("it is older than Kafka 2.4"))
    }

    fn log_in(&mut self, login: &Login) -> Result<(), ProduceError> {
        let mut handshake = SaslHandshakeRequest::default();
        handshake.mechanism = StrBytes::from_static_str(login.mechanism.name());
        let answer = self.call(&handshake, 1)?;
        if let Some(source) = ResponseError::try_from_code(answer.error_code) {
            let known: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            return Err(self.unwelcome(login, format!("{source}; it knows {}", known.join(", "))));
        }
        let lifetime_ms = match login.mechanism {
            Mechanism::Plain => self.authenticate(login, sasl::plain(&login.user, login.password.expose()))?.1,
            Mechanism::Scram(hash) => {
                let (scram, first) = Scram::begin(hash, &login.user, login.password.expose());
                let (server_first, _) = self.authenticate(login, first)?;
                let proof = scram.prove(&server_first).map_err(|text| self.unwelcome(login, text))?;
                let (server_final, lifetime_ms) = self.authenticate(login, proof.message.clone())?;
                proof.check(&server_final).map_err(|text| self.unwelcome(login, text))?;
                lifetime_ms
            }
        };
        // Where logins run out, the broker closes the connection then.
        let lifetime = Duration::from_millis(u64::try_from(lifetime_ms).unwrap_or(0));
        self.logged_in_until = (!lifetime.is_zero()).then(|| Instant::now() + lifetime.mul_f64(0.8));
        Ok(())
    }

    /// One step; the broker's message, and for how many milliseconds a finished login is good, 0 for ever.
    fn authenticate(&mut self, login: &Login, message: Vec<u8>) -> Result<(Bytes, i64), ProduceError> {
        let mut request = SaslAuthenticateRequest::default();
        request.auth_bytes = message.into();
        let answer = self.call(&request, 2)?;
        match ResponseError::try_from_code(answer.error_code) {
            None => Ok((answer.auth_bytes, answer.session_lifetime_ms)),
            Some(source) => {
                let said = answer.error_message.as_deref().unwrap_or_default().to_owned();
                Err(self.unwelcome(login, if said.is_empty() { source.to_string() } else { said }))
            }
        }
    }

    fn unwelcome(&self, login: &Login, answer: impl Into<String>) -> ProduceError {
        let (place, mechanism) = (self.place.clone(), login.mechanism.name().to_owned());
        ProduceError::Login { place, mechanism, answer: answer.into() }
    }

    fn broken(&self, source: io::Error) -> ProduceError {
        // Sockets with a limit say so in either word.
        let source = match source.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                io::Error::new(io::ErrorKind::TimedOut, format!("nothing moved for {} s", PATIENCE.as_secs()))
            }
            io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::UnexpectedEof, "the broker closed it"),
            _ => source,
        };
        ProduceError::Broken { place: self.place.clone(), source }
    }
}

fn name_of<R: Request>() -> String {
    ApiKey::try_from(R::KEY).map_or_else(|()| format!("request {}", R::KEY), |key| format!("{key:?}"))
}

fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                tcp.set_read_timeout(Some(PATIENCE))?;
                tcp.set_write_timeout(Some(PATIENCE))?;
                return Ok(tcp);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
