//! Mail over SMTP (RFC 5321) with TLS: from the first byte (RFC 8314), or by STARTTLS (RFC 3207), which is then insisted on.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lettre::address::Envelope;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::{AsyncSmtpTransportBuilder, PoolConfig};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use runtime::Secret;
use tokio::time::error::Elapsed;

use super::{Fault, Outcome, SetupError};

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// TLS from the first byte, usually port 465.
    Implicit,
    /// STARTTLS, usually port 587. Without it nothing is sent.
    StartTls,
    /// None, for a relay on this machine and for development.
    Off,
}

/// An operator's mail server.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Usually 465 or 587.
    pub port: u16,
    /// How it is protected.
    pub tls: SmtpTls,
    /// Name and password, where it wants them.
    pub credentials: Option<(String, Secret)>,
    /// What we call ourselves (EHLO).
    pub hello_name: Option<String>,
    /// Certificates to trust beside the system's, as PEM.
    pub ca_pem: Option<String>,
    /// For a mail in all.
    pub timeout: Duration,
    /// Connections at once.
    pub connections: u32,
}

/// Connections to the server.
type Transport = AsyncSmtpTransport<Tokio1Executor>;

/// Sends mail.
pub struct Smtp {
    builder: AsyncSmtpTransportBuilder,
    transport: Mutex<Transport>,
    server: String,
    timeout: Duration,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Smtp").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Sets it up; connects with the first mail. Call within a runtime.
    pub fn new(config: &SmtpConfig) -> Result<Self, SetupError> {
        let parameters = || -> Result<TlsParameters, SetupError> {
            let mut parameters = TlsParameters::builder(config.host.clone());
            if let Some(pem) = &config.ca_pem {
                let certificate = Certificate::from_pem(pem.as_bytes()).map_err(SetupError::Smtp)?;
                parameters = parameters.add_root_certificate(certificate);
            }
            parameters.build_rustls().map_err(SetupError::Smtp)
        };
        let tls = match config.tls {
            SmtpTls::Implicit => Tls::Wrapper(parameters()?),
            SmtpTls::StartTls => Tls::Required(parameters()?),
            SmtpTls::Off => Tls::None,
        };
        let mut builder = Transport::builder_dangerous(config.host.clone())
            .port(config.port)
            .tls(tls)
            .timeout(Some(config.timeout))
            .pool_config(PoolConfig::new().max_size(config.connections));
        if let Some(name) = &config.hello_name {
            builder = builder.hello_name(ClientId::Domain(name.clone()));
        }
        if let Some((user, password)) = &config.credentials {
            if config.tls == SmtpTls::Off {
                let reason = "a password isn't sent without TLS".into();
                return Err(SetupError::Setting { provider: "SMTP", reason });
            }
            builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
        }
        Ok(Self {
            transport: Mutex::new(builder.clone().build()),
            builder,
            server: format!("{}:{}", config.host, config.port),
            timeout: config.timeout,
        })
    }

    /// Does something with a connection, or gives it up. An answer that comes later would be taken for that of the mail which goes
    /// over the connection next, and all that follow would get their forerunner's. So that it isn't used again, all others of that
    /// moment are left behind with it, to finish what they are at.
    async fn within_time<T>(&self, work: impl AsyncFnOnce(Transport) -> T) -> Result<T, Elapsed> {
        let transport = || self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        let present = transport().clone();
        let outcome = tokio::time::timeout(self.timeout, work(present)).await;
        if outcome.is_err() {
            *transport() = self.builder.clone().build();
        }
        outcome
    }

    /// Connects and signs in, and sends nothing.
    pub async fn check(&self) -> Result<(), Fault> {
        match self.within_time(async |transport| transport.test_connection().await).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Fault::Unavailable("the server doesn't answer NOOP".into())),
            Ok(Err(error)) => Err(match outcome(&error) {
                Outcome::Retry { fault, .. } => fault,
                Outcome::Refused { reason } => Fault::Credentials(reason),
                Outcome::Sent { .. } | Outcome::Gone { .. } => Fault::Unavailable("it makes no sense".into()),
            }),
            Err(_) => Err(Fault::Unreachable("it takes too long".into())),
        }
    }

    /// Sends one mail, ready as bytes, from one address to one other.
    pub async fn send(&self, from: &str, to: &Secret, mail: &[u8]) -> Outcome {
        let Ok(from) = from.parse::<Address>() else {
            return Outcome::Refused { reason: "the sender's address is none".into() };
        };
        let Ok(to) = to.expose().parse::<Address>() else {
            return Outcome::Gone { since_ms: None };
        };
        let Ok(envelope) = Envelope::new(Some(from), vec![to]) else {
            return Outcome::Refused { reason: "the addresses make no envelope".into() };
        };
        match self.within_time(async |transport| transport.send_raw(&envelope, mail).await).await {
            Ok(Ok(response)) => {
                let code = response.code();
                Outcome::Sent { id: Some(code.to_string()) }
            }
            Ok(Err(error)) => outcome(&error),
            Err(_) => Outcome::Retry { after: None, fault: Fault::AnswerLost("it takes too long".into()) },
        }
    }
}

/// Servers repeat addresses in what they say, so only codes are taken from it.
fn outcome(error: &lettre::transport::smtp::Error) -> Outcome {
    let retry = |fault| Outcome::Retry { after: None, fault };
    let Some(code) = error.status() else {
        // Only its text tells a connection that failed from one that ended.
        return retry(if error.is_tls() {
            Fault::Unreachable("TLS fails".into())
        } else if error.to_string().starts_with("Connection error") {
            Fault::Unreachable("no connection".into())
        } else if error.is_client() {
            Fault::Credentials("the server lacks what is asked of it, such as STARTTLS or a way to sign in".into())
        } else {
            Fault::AnswerLost("the connection ended".into())
        });
    };
    let enhanced = enhanced_of(error);
    let reason = enhanced
        .map_or_else(|| code.to_string(), |[class, subject, detail]| format!("{code} {class}.{subject}.{detail}"));
    match u16::from(code) {
        // The server closes, or can't take anybody's mail just now.
        421 => retry(Fault::Unavailable(reason)),
        // Signing in fails or is wanted (RFC 4954, sections 4.7 and 6).
        454 | 530 | 534 | 535 | 538 => retry(Fault::Credentials(reason)),
        // Greylisting, a full mailbox, too many at once.
        400..500 => retry(Fault::Limited(reason)),
        // Bad destination mailbox or system, mailbox moved (RFC 3463, section 3.2).
        _ if matches!(enhanced, Some([5, 1, 1 | 2 | 3 | 6 | 10])) => Outcome::Gone { since_ms: None },
        _ => Outcome::Refused { reason },
    }
}

/// The enhanced status code (RFC 2034) at the beginning of what the server said.
fn enhanced_of(error: &lettre::transport::smtp::Error) -> Option<[u16; 3]> {
    let said = std::error::Error::source(error)?.to_string();
    let numbers: Vec<u16> = said.split_whitespace().next()?.split('.').map_while(|part| part.parse().ok()).collect();
    numbers.try_into().ok()
}
