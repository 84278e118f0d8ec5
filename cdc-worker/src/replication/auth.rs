//! Logging in: SCRAM-SHA-256, md5 and clear text.

use bytes::BytesMut;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::{backend, frontend};
use tokio_postgres::fallible_iterator::FallibleIterator;

use super::connect::Channel;
use super::error::{ReplicationError, ServerError};

/// Answers the server's questions until it lets us in.
pub(super) async fn log_in(channel: &mut Channel, user: &str, password: Option<&[u8]>) -> Result<(), ReplicationError> {
    let mut scram: Option<sasl::ScramSha256> = None;
    loop {
        let mut answer = BytesMut::new();
        let needed = || password.ok_or(ReplicationError::Settings("the server wants a password and the URL has none"));
        match channel.receive().await? {
            backend::Message::AuthenticationOk => return Ok(()),
            backend::Message::AuthenticationCleartextPassword => frontend::password_message(needed()?, &mut answer)?,
            backend::Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(user.as_bytes(), needed()?, body.salt());
                frontend::password_message(hash.as_bytes(), &mut answer)?;
            }
            backend::Message::AuthenticationSasl(body) => {
                let has_scram = body.mechanisms().any(|name| Ok(name == sasl::SCRAM_SHA_256))?;
                if !has_scram {
                    return Err(ReplicationError::Authentication("an unknown SASL"));
                }
                let started = sasl::ScramSha256::new(needed()?, sasl::ChannelBinding::unsupported());
                frontend::sasl_initial_response(sasl::SCRAM_SHA_256, started.message(), &mut answer)?;
                scram = Some(started);
            }
            backend::Message::AuthenticationSaslContinue(body) => {
                let scram = scram.as_mut().ok_or_else(|| out_of_turn("SASL continues"))?;
                scram.update(body.data())?;
                frontend::sasl_response(scram.message(), &mut answer)?;
            }
            backend::Message::AuthenticationSaslFinal(body) => {
                let scram = scram.as_mut().ok_or_else(|| out_of_turn("SASL ends"))?;
                scram.finish(body.data())?;
                continue;
            }
            backend::Message::ErrorResponse(body) => {
                return Err(ReplicationError::Server { what: "the login", source: ServerError::read(&body) });
            }
            backend::Message::AuthenticationGss | backend::Message::AuthenticationSspi => {
                return Err(ReplicationError::Authentication("GSSAPI"));
            }
            _ => return Err(ReplicationError::Authentication("an unknown kind of")),
        }
        channel.send(&answer).await?;
    }
}

fn out_of_turn(what: &str) -> ReplicationError {
    ReplicationError::Protocol(format!("{what} before it started"))
}
