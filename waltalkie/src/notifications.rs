//! Joins the gateway to what `notify` knows: keys and endpoints of browsers, and the page that ends mails.

use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use deadpool_postgres::Pool;
use ingest::gateway::{Gateway, Notifications};
use notify::provider::web_push::{Subscription, SubscriptionError};
use notify::text::Language;
use notify::unsubscribe::Unsubscribe;
use runtime::{Config, Secret};
use serde::Deserialize;

/// Nothing from elsewhere, nothing inline; the button posts to this page.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

const MAILS_OFF: &str = "
    INSERT INTO user_settings (user_id, settings, updated_at)
    SELECT id, '{\"email\": false}', clock_timestamp() FROM \"user\" WHERE id = $1 AND removed_at IS NULL
    ON CONFLICT (user_id) DO UPDATE
       SET settings = jsonb_set(user_settings.settings, '{email}', 'false'), updated_at = clock_timestamp()";
const LANGUAGE: &str = "SELECT settings->>'language' FROM user_settings WHERE user_id = $1";

/// What clients are told of notifications.
pub(crate) fn offered(config: &Config) -> Result<Notifications> {
    let reach = notify::service::reach(&config.notify);
    let languages = notify::service::languages(&config.notify.templates_dir)?;
    Ok(Notifications {
        web_push_public_key: notify::service::web_push_public_key(&config.notify)?,
        check_browser: Box::new(move |endpoint, p256dh, auth| {
            reach.check(endpoint).map_err(|error| ("address", format!("{error}.")))?;
            let checked = Subscription::new(Secret::new(endpoint), p256dh, auth);
            checked.map(drop).map_err(|error| match error {
                SubscriptionError::PublicKey => ("keys.p256dh", format!("{error}.")),
                SubscriptionError::Auth => ("keys.auth", format!("{error}.")),
            })
        }),
        check_zone: Box::new(notify::quiet::is_zone),
        languages: languages.all().map(|language| language.code().to_owned()).collect(),
    })
}

struct Page {
    links: Unsubscribe,
    truth: Pool,
    brand: String,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
}

/// `/unsubscribe`: GET shows a button, POST does it (RFC 8058). Without mail there is no such page.
pub(crate) fn unsubscribe_router(gateway: &Arc<Gateway>) -> Result<Router> {
    let config = &gateway.config;
    if config.notify.smtp_host.is_empty() {
        return Ok(Router::new());
    }
    let page = Page {
        links: notify::service::unsubscribe(config)?,
        truth: gateway.chat.pool().clone(),
        brand: config.notify.brand.clone(),
    };
    let limit = middleware::from_fn_with_state(Arc::clone(gateway), ingest::gateway::limit);
    Ok(Router::new().route("/unsubscribe", get(ask).post(act)).layer(limit).with_state(Arc::new(page)))
}

async fn ask(State(page): State<Arc<Page>>, Query(Token { token }): Query<Token>) -> Response {
    let Some(user_id) = page.links.user_of(&token) else { return page.unknown() };
    let language = page.language(&user_id).await;
    let words = Words::of(language);
    // A token holds only what an address can hold.
    let form = format!(
        "<p>{}</p><form method=\"post\" action=\"/unsubscribe?token={token}\"><button>{}</button></form>",
        escaped(&words.question.replace("{brand}", &page.brand)),
        words.button
    );
    page.answer(StatusCode::OK, language, words.title, &form)
}

/// Mail programs send `List-Unsubscribe=One-Click`, people the form of the page: the token alone counts.
async fn act(State(page): State<Arc<Page>>, Query(Token { token }): Query<Token>) -> Response {
    let Some(user_id) = page.links.user_of(&token) else { return page.unknown() };
    let language = page.language(&user_id).await;
    let words = Words::of(language);
    let written = async {
        let client = page.truth.get().await?;
        client.execute(MAILS_OFF, &[&user_id]).await?;
        anyhow::Ok(())
    };
    match written.await {
        Ok(()) => {
            let done = escaped(&words.done.replace("{brand}", &page.brand));
            page.answer(StatusCode::OK, language, words.title, &format!("<p>{done}</p>"))
        }
        Err(error) => {
            tracing::warn!(%error, "an unsubscribe can't be written now");
            let text = format!("<p>{}</p>", words.later);
            let mut response = page.answer(StatusCode::SERVICE_UNAVAILABLE, language, words.title, &text);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            response
        }
    }
}

impl Page {
    /// The person's, if this page is in it; else English.
    async fn language(&self, user_id: &str) -> Language {
        let asked = async {
            let client = self.truth.get().await.ok()?;
            client.query_opt(LANGUAGE, &[&user_id]).await.ok()??.get::<_, Option<String>>(0)
        };
        let asked = asked.await.map(|tag| Language::of(&tag)).unwrap_or_default();
        if Language::BUILT_IN.contains(&asked) { asked } else { Language::EN }
    }

    fn unknown(&self) -> Response {
        let text = "<p>This link isn't one of ours, or isn't whole: mail programs sometimes break long links. Open it again \
                    from the mail, or switch mails off in the application's settings.</p>";
        self.answer(StatusCode::BAD_REQUEST, Language::EN, "This link can't be read", text)
    }

    fn answer(&self, status: StatusCode, language: Language, title: &str, body: &str) -> Response {
        let (code, brand) = (language.code(), escaped(&self.brand));
        let page = format!(
            "<!doctype html>\n<html lang=\"{code}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"noindex\"><title>{title} · {brand}\
             </title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body><main><h1>{title}</h1>{body}</main></body>\
             </html>\n"
        );
        let mut response = (status, Html(page)).into_response();
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

struct Words {
    title: &'static str,
    question: &'static str,
    button: &'static str,
    done: &'static str,
    later: &'static str,
}

impl Words {
    fn of(language: Language) -> Self {
        if language == Language::DE { GERMAN } else { ENGLISH }
    }
}

const ENGLISH: Words = Words {
    title: "Mails of unread messages",
    question: "Do you want no more mails of unread messages from {brand}?",
    button: "No more mails",
    done: "You get no more mails of unread messages from {brand}. The application's settings switch them on again.",
    later: "This can't be done just now. Try again in a minute.",
};
const GERMAN: Words = Words {
    title: "Mails zu ungelesenen Nachrichten",
    question: "Möchtest du keine Mails zu ungelesenen Nachrichten von {brand} mehr?",
    button: "Keine Mails mehr",
    done: "Du bekommst keine Mails zu ungelesenen Nachrichten von {brand} mehr. In den Einstellungen der Anwendung kannst du sie wieder \
           einschalten.",
    later: "Das geht gerade nicht. Versuch es in einer Minute noch einmal.",
};

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
