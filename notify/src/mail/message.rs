//! A mail's header fields and parts (RFC 5322, MIME).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::raw::Raw;

use super::templates::Rendered;
use super::{DigestContent, MailConfig, NAME_CHARS};
use crate::text::one_line;

pub(super) fn build(
    config: &MailConfig,
    content: &DigestContent<'_>,
    rendered: &Rendered,
    unsubscribe: impl IntoIterator<Item = (&'static str, String)>,
    now_ms: i64,
) -> Vec<u8> {
    let domain = config.from_address.rsplit('@').next().unwrap_or("localhost");
    let name = content.name.map(|name| one_line(name, NAME_CHARS)).filter(|name| !name.is_empty());
    let mut message = MessageBuilder::new()
        .from(sender(config))
        .to(Address::new_address(name, address_of(content.address)))
        .subject(rendered.subject.as_str())
        .date(now_ms / 1_000)
        // The same for the same content: sent twice, it is shown once.
        .message_id(format!("{}@{domain}", id_of(content)))
        // Nobody's absence answers (RFC 3834).
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .text_body(rendered.text.as_str())
        .html_body(rendered.html.as_str());
    for (field, value) in unsubscribe {
        message = message.header(field, Raw::new(value));
    }
    let mut raw = Vec::new();
    message.serialize(&mut raw);
    raw
}

/// Name and address that mails are from.
pub(super) fn sender(config: &MailConfig) -> (String, String) {
    (one_line(&config.from_name, NAME_CHARS), address_of(&config.from_address))
}

fn id_of(content: &DigestContent<'_>) -> String {
    let hash = digest(&SHA256, format!("{}/{}", content.user_id, content.id).as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..24])
}

/// An address can't end its header field.
fn address_of(address: &str) -> String {
    address.chars().filter(|character| !character.is_control() && !matches!(character, '<' | '>')).collect()
}
