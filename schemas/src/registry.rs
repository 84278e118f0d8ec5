//! Client of a Confluent-compatible schema registry: the five calls that the contract needs.
//!
//! Subjects are `<topic>-value`, compatibility FULL_TRANSITIVE, set before the first version is registered. Ids and
//! schemas never change once given, so they are kept for the life of the process and a registry that goes away later
//! stops nobody who has met the id before. With a folder ([`Registry::keeping`]) they are kept longer: who starts while the registry
//! is away or silent takes them from there, and only then.

mod error;
mod kept;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde_json::json;

pub use self::error::RegistryError;
use self::kept::Kept;
use crate::record::{self, Record};

/// How long it may take to answer, and how long if there is an answer from before.
const PATIENCE: Duration = Duration::from_secs(10);
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

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
    kept: Option<Kept>,
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
            .timeout(PATIENCE)
            .build()
            .map_err(|source| RegistryError::Unreachable { url: shown.clone(), source })?;
        let (prefix, schemas) = (prefix.to_owned(), RwLock::default());
        Ok(Self { base, shown, credentials, prefix, http, schemas, kept: None })
    }

    /// The same client with a folder for ids and schemas, which are taken from there if the registry doesn't answer.
    #[must_use]
    pub fn keeping(mut self, folder: impl Into<PathBuf>) -> Self {
        self.kept = Some(Kept::new(folder.into(), self.shown.clone()));
        self
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
        let subject = self.subject::<R>();
        let request = self.http.post(self.url(&["subjects", &subject])).json(&json!({ "schema": R::SCHEMA }));
        let before = self.kept.as_ref().and_then(|kept| kept.id(&subject, R::SCHEMA));
        let id = self.ask_or(request, before.map(|id| Id { id })).await?.id;
        self.keep(id, R::SCHEMA);
        if let Some(kept) = &self.kept {
            kept.keep_id(&subject, R::SCHEMA, id);
        }
        Ok(id)
    }

    /// The schema that an id stands for.
    pub async fn schema_by_id(&self, id: u32) -> Result<String, RegistryError> {
        if let Some(schema) = self.schemas.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(schema.clone());
        }
        let request = self.http.get(self.url(&["schemas", "ids", &id.to_string()]));
        let before = self.kept.as_ref().and_then(|kept| kept.schema(id));
        let schema = self.ask_or(request, before.map(|schema| SchemaText { schema })).await?.schema;
        self.keep(id, &schema);
        if let Some(kept) = &self.kept {
            kept.keep_schema(id, &schema);
        }
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

    /// What the registry says; what it said before, if it doesn't answer.
    async fn ask_or<T: serde::de::DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        before: Option<T>,
    ) -> Result<T, RegistryError> {
        let Some(before) = before else { return self.ask(request).await };
        match self.ask(request.timeout(SHORT_PATIENCE)).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "the schema registry is away; going on with what it said before");
                Ok(before)
            }
            answer => answer,
        }
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
