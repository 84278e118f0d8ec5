//! A page for each error code: cause, remedy, and whether to try again.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemas::wire::Code;

use super::docs;

/// `/docs/errors`: all codes.
pub(super) fn list() -> String {
    let row = |code: Code| {
        let again = if code.is_temporary() { "yes" } else { "no" };
        let (name, status, (cause, _)) = (code.name(), code.http_status(), explanation(code));
        format!("| [`{name}`](/docs/errors/{name}) | {status} | {again} | {cause} |\n")
    };
    let rows: String = Code::ALL.into_iter().map(row).collect();
    format!("# Error codes\n\n| code | HTTP | again? | cause |\n|---|---|---|---|\n{rows}")
}

/// `/docs/errors/{code}`.
pub(super) async fn page(Path(name): Path<String>) -> Response {
    let Some(code) = Code::ALL.into_iter().find(|code| code.name() == name) else {
        return (StatusCode::NOT_FOUND, "There is no such error code; /docs/errors lists them.\n").into_response();
    };
    let (cause, remedy) = explanation(code);
    let again = if code.is_temporary() {
        "The same request can succeed later: wait for `retry_after_ms`, or a second, and double the wait each time."
    } else {
        "The same request will fail again."
    };
    let status = code.http_status();
    let text = format!(
        "# {name}\n\nHTTP status {status}. [All codes](/docs/errors)\n\n## Cause\n\n{cause}\n\n## Remedy\n\n{remedy}\n\n\
         ## Try again?\n\n{again}\n"
    );
    docs::answer(&text)
}

fn explanation(code: Code) -> (&'static str, &'static str) {
    match code {
        Code::BadJson => (
            "The frame or body is not a JSON object, or one in it has a key twice.",
            "Send JSON; the error names line and column.",
        ),
        Code::UnknownEvent => {
            ("The frame's event is not one that clients send.", "Use one of those that the error lists.")
        }
        Code::MissingField => ("A field that is needed is absent or null.", "Send the field that the error names."),
        Code::BadField => ("A field has the wrong type or lies outside its limits.", "The error names field and rule."),
        Code::BadUuid => {
            ("A message id is not a UUID.", "Make one per message, version 4 or 7, and keep it for repeats.")
        }
        Code::ChatNotFound => (
            "There is no such chat, or you are not a member of it; the two are not told apart.",
            "Check chat_id, or ask a member to add you.",
        ),
        Code::ChatExists => ("The chat_id is taken.", "Choose another, or leave it out."),
        Code::MessageNotFound => (
            "There is no such message in this chat for you to see or change.",
            "Check message_id; only senders edit, and only senders and a group's admins delete.",
        ),
        Code::UserNotFound => ("There is no such person.", "A person exists from their first valid token on."),
        Code::Forbidden => ("Your role in the chat doesn't allow this.", "Ask an owner or an admin."),
        Code::LastOwner => ("A group must keep an owner.", "Make somebody else an owner first."),
        Code::Conflict => (
            "Somebody changed the same thing meanwhile, or the cursors are of an earlier epoch.",
            "Look at the present state, then decide anew.",
        ),
        Code::ContentEmpty => ("A message says nothing.", "Send a text that is more than white space."),
        Code::ContentTooLong => {
            ("The text is over the limit.", "hello names limits.content_bytes; count bytes of UTF-8.")
        }
        Code::ContentNotText => ("The text holds a NUL character.", "Remove it."),
        Code::TokenMissing => (
            "The request has no token.",
            "Send Authorization: Bearer, or for WebSockets in browsers the subprotocol bearer.<jwt>.",
        ),
        Code::TokenExpired => ("The token has expired.", "Get a new one."),
        Code::TokenInvalid => (
            "The token is not signed by the key known here, or not meant for this service.",
            "Check key, algorithm, issuer and audience.",
        ),
        Code::TokenRevoked => ("The person's tokens were revoked after this one was issued.", "Get a new one."),
        Code::ScopeMissing => (
            "The service's token doesn't allow this, or the request is for services only.",
            "Mint a token with the scope that the error names; docs/auth.md has the table.",
        ),
        Code::RateLimited => ("Too many requests in a short time.", "Wait for retry_after_ms."),
        Code::MessageIdConflict => (
            "This message_id was used before with another body, chat or sender.",
            "Make a new UUID for each new message.",
        ),
        Code::IdempotencyKeyReused => (
            "This Idempotency-Key was used before with another request.",
            "Make a new key for each request, and keep it for repeats of that request only.",
        ),
        Code::IdempotencyKeyInUse => (
            "The first request with this Idempotency-Key is still under way.",
            "Wait for retry_after_ms, then send it again: you get the first one's answer.",
        ),
        Code::BlockedByEarlier => (
            "An earlier send of this connection to this chat was refused, and order is kept.",
            "Send the earlier one again, or give it up with discard_message.",
        ),
        Code::MediaNotFound => (
            "There is no such file, or you may not see any message that it is posted in; the two are not told apart.",
            "Check media_id. Only the uploader may post a file, in the chat that it was uploaded for; when the last message with \
             it is deleted, the file is removed too.",
        ),
        Code::MediaNotReady => (
            "The file is not uploaded and completed yet, or it was refused.",
            "Upload it, call complete, and send it when that has answered 200; GET /v1/media/{id} tells its state.",
        ),
        Code::MediaBusy => (
            "The file is being looked into just now.",
            "Wait for retry_after_ms and call complete again: it answers with what was found.",
        ),
        Code::MediaTooLarge => {
            ("The file is larger than is taken here.", "Send a smaller one; the error names the limit.")
        }
        Code::MediaTypeRefused => (
            "Files of this type are not taken here.",
            "Send one of the types that the error lists; operators set them as media.allowed_types.",
        ),
        Code::MediaRefused => (
            "The file that was uploaded is not what was declared, is damaged, or is not safe to show. It was removed.",
            "The error says what is wrong with it. Mend the file, or declare what it is, and begin a new upload.",
        ),
        Code::UploadIncomplete => (
            "The store doesn't have the whole file yet.",
            "Upload what the error says is missing; GET /v1/media/{id} gives new URLs. Then call complete again.",
        ),
        Code::FrameTooBig => ("The frame or body is over the limit.", "hello names limits.frame_bytes."),
        Code::NotSupported => ("This version can't do that yet.", "Leave the field or frame out."),
        Code::NotFound => ("There is nothing at this path.", "Check the path."),
        Code::MethodNotAllowed => ("The path doesn't take this method.", "Use one that the Allow header lists."),
        Code::Overloaded => {
            ("More is on its way than can be carried just now.", "Wait for retry_after_ms; nothing was lost.")
        }
        Code::Unavailable => (
            "A server behind this one is away, or did not answer in time.",
            "Send again with the same message_id: if the first one was written after all, you get its seq.",
        ),
        Code::Internal => {
            ("Something failed that should not have.", "Tell the operators the Request-Id: it is in their logs.")
        }
    }
}
