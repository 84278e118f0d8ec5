//! `/docs`: this version's documentation, without anything from elsewhere. The guides are the files of `docs/`; the
//! references are made of the OpenAPI document, the AsyncAPI document and the Avro schemas.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};
use rust_embed::RustEmbed;

use super::{errors, reference};

#[derive(RustEmbed)]
#[folder = "../docs"]
struct Files;

const STYLE: &str = include_str!("docs.css");
/// Nothing from elsewhere, nothing inline, no scripts.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Pages in the order in which they are listed, with what each is for.
const PAGES: [(&str, &str); 16] = [
    ("api", "The client API: from a token to a conversation, the WebSocket, rules for clients"),
    ("clients", "Writing a client: cursors, resumes, the outbox, the end of a connection, tests"),
    ("http", "HTTP reference: every endpoint, every field"),
    ("websocket", "WebSocket reference: every frame, every field, every close code"),
    ("events", "Event reference: every topic, every field"),
    ("auth", "Tokens, keys, services and their scopes"),
    ("errors", "Error codes: cause, remedy, try again or not"),
    ("media", "Files in messages: upload, post, read; the store behind it"),
    ("consumers", "For those who read the history from Kafka"),
    ("history", "The history in ten minutes: tail, Python, Flink SQL, rebuilds, reports"),
    ("operators", "Running it: durability, faults, metrics"),
    ("runbook", "When something ails: symptom, effect on people, first commands"),
    ("notifications", "Push and mail: what to set up, what apps receive, how to test it"),
    ("configuration", "Every key of the configuration"),
    ("roles", "Who may what in a chat"),
    ("benchmarks", "What was measured, and how"),
];

/// All pages, rendered.
static RENDERED: LazyLock<BTreeMap<&str, String>> =
    LazyLock::new(|| PAGES.into_iter().map(|(name, _)| (name, document(&text_of(name)))).collect());

fn text_of(name: &str) -> String {
    match name {
        "http" => reference::http(),
        "websocket" => reference::websocket(),
        "events" => reference::events(),
        "errors" => errors::list(),
        name => Files::get(&format!("{name}.md"))
            .map(|file| String::from_utf8_lossy(&file.data).into_owned())
            .unwrap_or_default(),
    }
}

/// `/docs`.
pub(super) async fn index() -> Response {
    let rows = PAGES.map(|(name, purpose)| format!("- **[{name}](/docs/{name})**: {purpose}\n")).concat();
    let more = "\nFor programs: [`/openapi.json`](/openapi.json) and [`/asyncapi.json`](/asyncapi.json), or without a server \
                `waltalkie docs openapi` and `waltalkie docs asyncapi`.\n";
    answer(&format!("# Waltalkie {}\n\n{rows}{more}", env!("CARGO_PKG_VERSION")))
}

/// `/docs/{page}`, and what pages show.
pub(super) async fn page(Path(name): Path<String>) -> Response {
    if let Some(page) = RENDERED.get(name.as_str()) {
        return with_policy(Html(page.as_str()));
    }
    if name == "style.css" {
        return ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response();
    }
    match name.strip_suffix(".svg").and_then(|_| Files::get(&name)) {
        Some(file) => ([(header::CONTENT_TYPE, "image/svg+xml")], file.data.into_owned()).into_response(),
        None => (StatusCode::NOT_FOUND, "There is no such page; /docs lists them.\n").into_response(),
    }
}

/// A page made of Markdown.
pub(super) fn answer(markdown: &str) -> Response {
    with_policy(Html(document(markdown)))
}

fn with_policy(page: impl IntoResponse) -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, page).into_response()
}

fn document(markdown: &str) -> String {
    let links = PAGES.map(|(name, _)| format!("<a href=\"/docs/{name}\">{name}</a>")).concat();
    let nav = format!("<nav aria-label=\"Documentation\"><a href=\"/docs\">Waltalkie</a>{links}</nav>");
    whole("<link rel=\"stylesheet\" href=\"/docs/style.css\">", &nav, markdown)
}

/// A page in one file, to be kept anywhere: its style is in it, and it leads to no other page.
pub(super) fn standalone(markdown: &str) -> String {
    whole(&format!("<style>{STYLE}</style>"), "", markdown)
}

fn whole(style: &str, nav: &str, markdown: &str) -> String {
    let title = markdown.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("Waltalkie");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title} – Waltalkie</title>\
         {style}</head><body>{nav}<main>{}</main></body></html>\n",
        rendered(markdown)
    )
}

fn rendered(markdown: &str) -> String {
    let events = with_ids(with_links(Parser::new_ext(markdown, Options::ENABLE_TABLES)));
    let mut text = String::new();
    html::push_html(&mut text, events.into_iter());
    // Wide tables move by themselves on narrow screens.
    text.replace("<table>", "<div class=\"table\"><table>").replace("</table>", "</table></div>")
}

/// Links between files become links between pages; those to files that aren't served become plain text, as does HTML.
fn with_links<'a>(events: impl Iterator<Item = Event<'a>>) -> Vec<Event<'a>> {
    let mut are_kept = Vec::new();
    let mut linked = Vec::new();
    for event in events {
        match event {
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let target = target_of(&dest_url);
                are_kept.push(target.is_some());
                if let Some(target) = target {
                    linked.push(Event::Start(Tag::Link { link_type, dest_url: target.into(), title, id }));
                }
            }
            Event::End(TagEnd::Link) => {
                if are_kept.pop().unwrap_or_default() {
                    linked.push(Event::End(TagEnd::Link));
                }
            }
            Event::Start(Tag::Image { link_type, dest_url, title, id }) => {
                let dest_url = format!("/docs/{dest_url}").into();
                linked.push(Event::Start(Tag::Image { link_type, dest_url, title, id }));
            }
            Event::Html(text) | Event::InlineHtml(text) => linked.push(Event::Text(text)),
            other => linked.push(other),
        }
    }
    linked
}

fn target_of(url: &str) -> Option<String> {
    if url.starts_with(['#', '/']) || url.starts_with("https://") {
        return Some(url.to_owned());
    }
    let (file, place) = url.split_once('#').map_or((url, None), |(file, place)| (file, Some(place)));
    let name = file.strip_suffix(".md").filter(|name| PAGES.iter().any(|(page, _)| page == name))?;
    Some(place.map_or(format!("/docs/{name}"), |place| format!("/docs/{name}#{place}")))
}

/// Headings get the ids that links to them name: the text in lower case, spaces as hyphens, other signs left out.
fn with_ids(mut events: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    for place in 0..events.len() {
        if !matches!(events[place], Event::Start(Tag::Heading { .. })) {
            continue;
        }
        let parts = events[place + 1..].iter().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
        let text: String = parts
            .filter_map(|event| match event {
                Event::Text(text) | Event::Code(text) => Some(text.as_ref()),
                _ => None,
            })
            .collect();
        let slug: String = text
            .to_lowercase()
            .chars()
            .filter_map(|sign| match sign {
                ' ' => Some('-'),
                sign if sign.is_alphanumeric() || matches!(sign, '-' | '_') => Some(sign),
                _ => None,
            })
            .collect();
        let count = seen.entry(slug.clone()).and_modify(|count| *count += 1).or_default();
        let unique = if *count == 0 { slug } else { format!("{slug}-{count}") };
        if let Event::Start(Tag::Heading { id, .. }) = &mut events[place] {
            *id = Some(CowStr::from(unique));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(page: &str) -> Vec<&str> {
        page.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_link_leads_somewhere() {
        for (name, page) in RENDERED.iter() {
            assert!(page.len() > 1_000, "{name} is empty");
            for link in page.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
                let (path, place) = link.split_once('#').map_or((link, None), |(path, place)| (path, Some(place)));
                let target = match path.strip_prefix("/docs/") {
                    _ if path.is_empty() => Some(page),
                    Some("style.css") => None,
                    Some(error) if error.starts_with("errors/") => None,
                    Some(other) => Some(RENDERED.get(other).unwrap_or_else(|| panic!("{name}: {link}"))),
                    None => {
                        assert!(
                            ["/docs", "/openapi.json", "/asyncapi.json"].contains(&path)
                                || path.starts_with("https://"),
                            "{name}: {link}"
                        );
                        None
                    }
                };
                if let (Some(target), Some(place)) = (target, place) {
                    assert!(ids(target).contains(&place), "{name}: {link}");
                }
            }
        }
    }

    #[test]
    fn pages_load_nothing_from_elsewhere_and_run_nothing() {
        for (name, page) in RENDERED.iter() {
            assert!(!page.contains("<script") && !page.contains("src=\"http"), "{name}");
        }
        assert!(rendered("a <script>alert(1)</script> `<b>`").contains("&lt;script&gt;"));
    }

    #[test]
    fn a_page_that_stands_alone_needs_nothing_else() {
        let page = standalone(&crate::pages::catalogue_text());
        assert!(page.contains("<style>") && page.contains("id=\"chatevents\"") && !page.contains("<nav"));
        for link in page.split(" href=\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(link.strip_prefix('#').is_some_and(|place| ids(&page).contains(&place)), "{link}");
        }
    }

    #[test]
    fn headings_of_one_name_are_told_apart() {
        let page = rendered("# Close codes!\n\n## `A b`\n\n## A b\n");
        assert_eq!(ids(&page), ["close-codes", "a-b", "a-b-1"]);
    }
}
