//! HTTP towards clients, under `/v1`. Checks everything that can be checked before a command is accepted; reads answer
//! members only, by a query that doesn't tell a chat that isn't there from one that isn't theirs.

mod caller;
mod chat_list;
mod chats;
mod company;
mod dev;
mod devices;
mod document;
mod etag;
mod history;
mod hours;
mod idempotency;
mod media;
mod members;
mod messages;
mod notify;
mod people;
mod problem;
mod profile;
mod put_chat;
mod services;
mod settings;
mod shapes;

use std::sync::Arc;

use axum::extract::{Request, State as AxumState};
use axum::http::HeaderValue;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Extension, Router};
use deadpool_postgres::Pool;
use runtime::Config;
use schemas::wire::{Code, Limits as FrameLimits, Rejection};
use tracing::Instrument;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::caller::{Admitted, bearer};
use crate::auth::{Authenticator, Token};
use crate::chat_service::ChatService;
use crate::limits::Limits;
use crate::marks::Marks;
use crate::media::MediaService;
use crate::rates;
use crate::standing::Herald;
use crate::users::Users;

pub use document::openapi_json;
pub use notify::Notifications;
pub use problem::Problem;

/// What every request can reach.
pub struct Gateway {
    /// The configuration.
    pub config: Arc<Config>,
    /// Tokens.
    pub authenticator: Authenticator,
    /// Commands.
    pub chat: ChatService,
    /// Receipts.
    pub marks: Arc<Marks>,
    /// Files, where there is a store for them.
    pub media: Option<Arc<MediaService>>,
    /// People.
    pub users: Users,
    /// Tells all nodes of revocations.
    pub herald: Herald,
    /// This node's limits.
    pub limits: Arc<Limits>,
    /// The read models.
    pub read_pool: Pool,
    /// What clients are told of notifications.
    pub notify: Notifications,
    /// Limits that clients are told.
    pub frame_limits: FrameLimits,
}

type Shared = AxumState<Arc<Gateway>>;

/// The routes of `/v1` with their documents.
fn routes(development: bool) -> OpenApiRouter<Arc<Gateway>> {
    let routes = OpenApiRouter::with_openapi(document::base())
        .routes(routes!(chats::list, chats::create))
        .routes(routes!(chats::show, chats::update, put_chat::put))
        .routes(routes!(members::list, members::add))
        .routes(routes!(members::update, members::remove))
        .routes(routes!(messages::list, messages::send))
        .routes(routes!(messages::show, messages::edit, messages::delete))
        .routes(routes!(messages::mark_read))
        .routes(routes!(media::create))
        .routes(routes!(media::show, media::remove))
        .routes(routes!(media::complete))
        .routes(routes!(people::list))
        .routes(routes!(people::me, profile::update))
        .routes(routes!(settings::show, settings::update))
        .routes(routes!(devices::list, devices::add))
        .routes(routes!(devices::remove))
        .routes(routes!(notify::show))
        .routes(routes!(people::inbox))
        .routes(routes!(services::put, services::remove))
        .routes(routes!(services::revoke));
    if development { routes.routes(routes!(dev::users)).routes(routes!(dev::token)) } else { routes }
}

/// What is served under `/v1`.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let (router, _) = routes(gateway.config.development).split_for_parts();
    router
        .route("/v1/{*unknown}", axum::routing::any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), idempotency::keep))
        .layer(middleware::from_fn(etag::tag))
        .layer(middleware::from_fn_with_state(Arc::clone(&gateway), limit))
        .layer(middleware::from_fn(rates::show))
        .with_state(gateway)
}

async fn unknown() -> Problem {
    Rejection::new(Code::NotFound, "There is nothing at this path; see /v1 in the documentation.").into()
}

async fn wrong_method() -> Problem {
    Rejection::new(Code::MethodNotAllowed, "This path doesn't take this method.").into()
}

/// The id of a request, in its answer's `Request-Id` and in the logs.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

/// Gives a request or handshake its id. Whatever is logged on its way has the id, and an answer that says that something failed
/// here is logged with it. Admission refuses by the thousand on purpose: that is counted.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let id = Uuid::now_v7().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!("request", request_id = id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    let code = response.extensions().get::<Code>().copied();
    span.in_scope(|| {
        if status >= 500 && code != Some(Code::Overloaded) {
            tracing::warn!(%method, path, status, ?code, "a request failed");
        } else {
            tracing::debug!(%method, path, status, ?code, "answered");
        }
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("request-id", value);
    }
    response
}

/// The address that a connection came from; the wiring puts it into every request.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub std::net::IpAddr);

/// Counts a request or handshake of its address, and refuses it if there were too many.
pub async fn limit(
    AxumState(gateway): AxumState<Arc<Gateway>>,
    peer: Option<Extension<PeerAddress>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if let Some(Extension(PeerAddress(address))) = peer
        && let Err(refusal) = gateway.limits.request(address)
    {
        // A backend asks for many from one address, and has a limit of its own.
        let Some(token) = bearer(request.headers()) else { return Err(refusal.into()) };
        let Ok(Token::Service(service)) = gateway.authenticator.verify(token).await else {
            return Err(refusal.into());
        };
        gateway.limits.service(&service.name)?;
        request.extensions_mut().insert(Admitted(service));
    }
    Ok(next.run(request).await)
}
