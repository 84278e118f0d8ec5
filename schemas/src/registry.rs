//! Client of a Confluent-compatible schema registry: the five calls that the contract needs.
//!
//! Subjects are `<topic>-value`, compatibility FULL_TRANSITIVE, set before the first version is registered. Ids and
//! schemas never change once given, so they are kept for the life of the process and a registry that goes away later
//! stops nobody who has met the id before.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::record::{self, Record};

/// What a call to the registry can fail with. The URL in it has no credentials.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error("schema registry {url}: no answer")]
    Unreachable {
        /// Address without credentials.
        url: String,
        /// What the client says.
        #[source]
        source: reqwest::Error,
    },
    /// An answer that says no.
    #[error("schema registry {url}: {status} {message}")]
    Refused {
        /// Address without credentials.
        url: String,
        /// HTTP status.
        status: u16,
        /// The registry's own words.
        message: String,
    },
    /// The address is no URL.
    #[error("schema registry: `{0}` is not a URL")]
    BadUrl(String),
}

impl RegistryError {
    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status >= 500 || *status == 429,
            Self::BadUrl(_) => false,
        }
    }

    /// Whether the registry says that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// The level of every subject.
pub const COMPATIBILITY: &str = "FULL_TRANSITIVE";

/// A registry at one address, under one subject prefix.
pub struct Registry {
    base: reqwest::Url,
    shown: String,
    credentials: Option<(String, Option<String>)>,
    prefix: String,
    http: Client,
    schemas: RwLock<HashMap<u32, String>>,
}

/// What `schemas check` found for one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compatibility {
    /// The subject doesn't exist yet.
    New,
    /// The latest version is this schema.
    Same,
    /// May be registered.
    Compatible,
    /// May not, for these reasons.
    Incompatible(Vec<String>),
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Level {
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

#[derive(Deserialize)]
struct SchemaText {
    schema: String,
}

#[derive(Deserialize)]
struct Verdict {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl Registry {
    /// A client for `url`, which may hold `user:password@`; `prefix` goes before every topic in a subject.
    pub fn new(url: &str, prefix: &str) -> Result<Self, RegistryError> {
        let mut base = reqwest::Url::parse(url).map_err(|_| RegistryError::BadUrl(redact(url)))?;
        let credentials =
            (!base.username().is_empty()).then(|| (base.username().to_owned(), base.password().map(str::to_owned)));
        base.set_username("").ok();
        base.set_password(None).ok();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let shown = base.to_string();
        // The HTTP client needs the process' TLS provider, and panics without; an error says that there is one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|source| RegistryError::Unreachable { url: shown.clone(), source })?;
        Ok(Self { base, shown, credentials, prefix: prefix.to_owned(), http, schemas: RwLock::default() })
    }

    /// Subject of a record's values.
    pub fn subject<R: Record>(&self) -> String {
        self.subject_of(R::TOPIC.base_name())
    }

    fn subject_of(&self, topic: &str) -> String {
        format!("{}{topic}-value", self.prefix)
    }

    /// Address without credentials.
    pub fn address(&self) -> &str {
        self.shown.trim_end_matches('/')
    }

    /// Subject and schema of every record of the contract.
    pub fn wanted(&self) -> Vec<(String, &'static str)> {
        record::all().into_iter().map(|(_, schema, topic)| (self.subject_of(topic.base_name()), schema)).collect()
    }

    /// Registers every record of the contract that isn't, in order, and returns subject and id of each.
    pub async fn register_all(&self) -> Result<Vec<(String, u32)>, RegistryError> {
        let mut registered = Vec::new();
        for (subject, schema) in self.wanted() {
            let id = match self.registered_id(&subject, schema).await? {
                Some(id) => id,
                None => self.register(&subject, schema).await?,
            };
            registered.push((subject, id));
        }
        Ok(registered)
    }

    /// The id of a schema that is registered as it should be; changes nothing, which this login may be forbidden.
    async fn registered_id(&self, subject: &str, schema: &str) -> Result<Option<u32>, RegistryError> {
        let level = match self.ask::<Level>(self.http.get(self.url(&["config", subject]))).await {
            Ok(Level { level }) => level,
            Err(error) if error.is_transient() => return Err(error),
            Err(_) => return Ok(None),
        };
        if level != COMPATIBILITY {
            return Ok(None);
        }
        let request = self.http.post(self.url(&["subjects", subject])).json(&json!({ "schema": schema }));
        match self.ask::<Id>(request).await {
            Ok(Id { id }) => {
                self.keep(id, schema);
                Ok(Some(id))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks the registry about every record of the contract, without changing anything.
    pub async fn check_all(&self) -> Result<Vec<(String, Compatibility)>, RegistryError> {
        let mut found = Vec::new();
        for (_, schema, topic) in record::all() {
            let subject = self.subject_of(topic.base_name());
            let verdict = self.check(&subject, schema).await?;
            found.push((subject, verdict));
        }
        Ok(found)
    }

    /// The id under which our own version of a record is registered; never registers anything.
    pub async fn id_of<R: Record>(&self) -> Result<u32, RegistryError> {
        let request = self.http.post(self.url(&["subjects", &self.subject::<R>()]));
        let id = self.ask::<Id>(request.json(&json!({ "schema": R::SCHEMA }))).await?.id;
        self.keep(id, R::SCHEMA);
        Ok(id)
    }

    /// The schema that an id stands for.
    pub async fn schema_by_id(&self, id: u32) -> Result<String, RegistryError> {
        if let Some(schema) = self.schemas.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(schema.clone());
        }
        let request = self.http.get(self.url(&["schemas", "ids", &id.to_string()]));
        let schema = self.ask::<SchemaText>(request).await?.schema;
        self.keep(id, &schema);
        Ok(schema)
    }

    /// Registers one schema under FULL_TRANSITIVE and returns its id; the same schema again gives the same id.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let level = self.http.put(self.url(&["config", subject])).json(&json!({ "compatibility": COMPATIBILITY }));
        self.ask::<serde_json::Value>(level).await?;
        let request = self.http.post(self.url(&["subjects", subject, "versions"])).json(&json!({ "schema": schema }));
        let id = self.ask::<Id>(request).await?.id;
        self.keep(id, schema);
        Ok(id)
    }

    /// Whether a schema could be registered, without registering it.
    pub async fn check(&self, subject: &str, schema: &str) -> Result<Compatibility, RegistryError> {
        let body = json!({ "schema": schema });
        match self.ask::<Id>(self.http.post(self.url(&["subjects", subject])).json(&body)).await {
            Ok(_) => return Ok(Compatibility::Same),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        let mut url = self.url(&["compatibility", "subjects", subject, "versions"]);
        url.set_query(Some("verbose=true"));
        match self.ask::<Verdict>(self.http.post(url).json(&body)).await {
            Ok(verdict) if verdict.is_compatible => Ok(Compatibility::Compatible),
            Ok(verdict) => Ok(Compatibility::Incompatible(verdict.messages)),
            Err(error) if error.is_not_found() => Ok(Compatibility::New),
            Err(error) => Err(error),
        }
    }

    /// Whether the registry answers.
    pub async fn ping(&self) -> Result<(), RegistryError> {
        self.ask::<serde_json::Value>(self.http.get(self.url(&["subjects"]))).await.map(drop)
    }

    /// Takes a schema for what an id stands for.
    pub(crate) fn keep(&self, id: u32, schema: &str) {
        self.schemas.write().unwrap_or_else(PoisonError::into_inner).insert(id, schema.to_owned());
    }

    fn url(&self, segments: &[&str]) -> reqwest::Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        mut request: reqwest::RequestBuilder,
    ) -> Result<T, RegistryError> {
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, password.as_deref());
        }
        let unreachable = |source: reqwest::Error| RegistryError::Unreachable {
            url: self.shown.clone(),
            source: source.without_url(),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            return Err(RegistryError::Refused {
                url: self.shown.clone(),
                status: status.as_u16(),
                message: words_of(response, status).await,
            });
        }
        response.json().await.map_err(unreachable)
    }
}

async fn words_of(response: Response, status: StatusCode) -> String {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    response
        .json::<Words>()
        .await
        .map_or_else(|_| status.canonical_reason().unwrap_or_default().to_owned(), |words| words.message)
}

fn redact(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}://…{}", &url[..scheme], &url[at..]),
        _ => url.to_owned(),
    }
}
