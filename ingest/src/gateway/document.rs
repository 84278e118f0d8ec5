//! The OpenAPI document: made of the same routes that are served, so that none can be missing, and completed with what
//! all of them have in common: errors, headers, the token.

use std::sync::LazyLock;

use schemas::wire::Code;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Header, OpenApi as Document, Ref, RefOr, Required};
use utoipa::{OpenApi, ToSchema};

use super::shapes::ProblemDetails;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Waltalkie",
        description = "HTTP of Waltalkie, a chat backend whose every message can be replayed. Live events come over the \
                       WebSocket at /v1/ws."
    ),
    servers((url = "/")),
    tags(
        (name = "chats", description = "Chats and their settings"),
        (name = "members", description = "Who is in a chat"),
        (name = "messages", description = "Messages and receipts"),
        (name = "media", description = "Files for messages"),
        (name = "people", description = "Oneself and others"),
        (name = "services", description = "For the application's backend, with a service token"),
        (name = "development", description = "Only with development = true"),
    ),
    components(schemas(ProblemDetails))
)]
struct Base;

/// What all routes' documents are added to.
pub(super) fn base() -> Document {
    Base::openapi()
}

/// The document as JSON.
pub fn openapi_json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        let mut document = super::routes(true).into_openapi();
        complete(&mut document);
        document.to_pretty_json().unwrap_or_default()
    });
    &JSON
}

/// Errors that every request can get; what changes something adds 409, a body 413, 422 and 501.
const EVERYWHERE: [u16; 8] = [400, 401, 403, 404, 405, 429, 500, 503];

fn complete(document: &mut Document) {
    let components = document.components.get_or_insert_with(Components::default);
    let token = Http::builder().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    components.security_schemes.insert("token".into(), SecurityScheme::Http(token));
    for status in [400, 401, 403, 404, 405, 409, 413, 422, 429, 500, 501, 503] {
        components.responses.insert(format!("Problem{status}"), RefOr::T(problem(status)));
    }
    for (path, item) in &mut document.paths.paths {
        let is_open = path.starts_with("/v1/dev/");
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            finish(operation, method, is_open);
        }
    }
}

fn finish(operation: &mut Operation, method: &str, is_open: bool) {
    let parameters = operation.parameters.get_or_insert_default();
    if !is_open {
        operation.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
        let is_for_services = operation.tags.iter().flatten().any(|tag| tag == "services");
        if !is_for_services {
            parameters.push(header("On-Behalf-Of", "Of services: in whose name, a `user_id`."));
        }
        if method == "post" && !is_for_services {
            parameters.push(header("Idempotency-Key", "The same request with the same key is done once."));
        }
    }
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response {
            response.headers.insert("Request-Id".into(), request_id());
            response.headers.insert("RateLimit-Policy".into(), text("Limits that the request counted against."));
            response.headers.insert("RateLimit".into(), text("What is left of them."));
            if method == "get" {
                response.headers.insert("ETag".into(), text("For If-None-Match."));
            }
        }
    }
    if method == "get" {
        parameters.push(header("If-None-Match", "An `ETag`: 304 without a body while nothing has changed."));
        let unchanged = ResponseBuilder::new().description("Nothing has changed").header("ETag", text("The same."));
        operation.responses.responses.insert("304".into(), RefOr::T(unchanged.build()));
    }
    let mut problems = EVERYWHERE.to_vec();
    if method != "get" {
        problems.push(409);
    }
    let is_of_media = operation.tags.iter().flatten().any(|tag| tag == "media");
    if operation.request_body.is_some() || is_of_media {
        problems.extend([413, 422, 501]);
    }
    for status in problems {
        let reference = RefOr::Ref(Ref::from_response_name(format!("Problem{status}")));
        operation.responses.responses.entry(status.to_string()).or_insert(reference);
    }
}

fn problem(status: u16) -> Response {
    let codes: Vec<String> = Code::ALL
        .into_iter()
        .filter(|code| code.http_status() == status)
        .map(|code| format!("`{}`", code.name()))
        .collect();
    let content = Content::new(Some(Ref::from_schema_name(ProblemDetails::name())));
    let mut response = ResponseBuilder::new()
        .description(codes.join(", "))
        .content("application/problem+json", content)
        .header("Request-Id", request_id());
    if [429, 503].contains(&status) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        response = response
            .header("Retry-After", HeaderBuilder::new().schema(seconds).description(Some("Seconds to wait.")).build());
    }
    response.build()
}

fn header(name: &str, description: &str) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .description(Some(description))
        .build()
}

fn request_id() -> Header {
    text("Names the request in this server's logs.")
}

fn text(description: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(text).description(Some(description)).build()
}
