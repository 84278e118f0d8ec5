//! Stores that aren't ours: what a store is asked, in which place and by whose key, as the configuration and the usual chain of
//! credentials say. The store here only listens and agrees.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use waltalkie_tests::harness::Installation;

/// A request's first line and header.
#[derive(Debug, Clone)]
struct Asked {
    line: String,
    fields: BTreeMap<String, String>,
}

impl Asked {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// A store, or a proxy before any, that takes everything and remembers how it was asked.
struct Listening {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Listening {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let asked = Arc::new(Mutex::default());
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                // A client that goes away is no failure.
                tokio::spawn(answer(socket, Arc::clone(&heard)));
            }
        });
        Ok(Self { url, asked })
    }

    fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn answer(mut socket: TcpStream, heard: Arc<Mutex<Vec<Asked>>>) -> Result<()> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        ensure!(socket.read_buf(&mut bytes).await? > 0, "it ended");
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let fields: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = fields.get("content-length").map_or(Ok(0), |length| length.parse())?;
    while bytes.len() < end + 4 + length {
        ensure!(socket.read_buf(&mut bytes).await? > 0, "it ended");
    }
    heard.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { line: line.clone(), fields });
    let credentials = json!({
        "AccessKeyId": "CONTAINERKEY", "SecretAccessKey": "its secret", "Token": "its session",
        "Expiration": "2099-01-01T00:00:00Z",
    });
    let body = match line.split(' ').next() {
        Some("GET") => credentials.to_string(),
        Some("POST") => "<DeleteResult><Deleted><Key>it</Key></Deleted></DeleteResult>".to_owned(),
        _ => String::new(),
    };
    // What was written is there: a HEAD says so by its length.
    let length = if line.starts_with("HEAD") { 16 } else { body.len() };
    let answer = format!(
        "HTTP/1.1 200 OK\r\netag: \"1\"\r\nlast-modified: Wed, 21 Oct 2015 07:28:00 GMT\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    socket.write_all(answer.as_bytes()).await?;
    Ok(())
}

/// What `doctor` finds of the store with these settings and this environment of AWS' programs.
async fn look(installation: &Installation, settings: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Value> {
    let mut command = installation.command()?;
    let inherited = ["AWS_", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"];
    for (name, _) in std::env::vars() {
        if inherited.iter().any(|start| name.starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.env("WALTALKIE_MEDIA__BUCKET", "examplebucket");
    command.envs(settings.iter().map(|(key, value)| (format!("WALTALKIE_MEDIA__{}", key.to_uppercase()), *value)));
    command.envs(environment.iter().copied()).args(["doctor", "--json"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let findings: Value = serde_json::from_slice(&output.stdout)?;
    let found = findings.as_array().into_iter().flatten().find(|finding| finding["part"] == "media");
    found.cloned().context("nothing of media")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_asked_in_the_right_place_with_the_right_key() -> Result<()> {
    let installation = Installation::make("media-elsewhere").await?;
    let store = Listening::start().await?;
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("password");
    std::fs::write(&password, "let me in")?;
    let (own, credentials) = (store.url.as_str(), format!("{}/credentials", store.url));
    let password = password.to_str().context("a path")?;

    // Bucket in the path; our own key goes before what the environment has.
    let settings =
        [("endpoint", own), ("region", "eu-test-7"), ("access_key_id", "OWNKEY"), ("secret_access_key", "own")];
    let environment = [
        ("AWS_ACCESS_KEY_ID", "ENVKEY"),
        ("AWS_SECRET_ACCESS_KEY", "env"),
        ("AWS_SESSION_TOKEN", "env session"),
        ("AWS_REGION", "mars-1"),
    ];
    let found = look(&installation, &settings, &environment).await?;
    ensure!(found["is_well"] == true, "{found}");
    all(&store.take(), own, "/examplebucket", "OWNKEY", "eu-test-7", "")?;

    // Bucket in the host, as AWS has it: nobody but a proxy can listen there. The key is of the environment, for a session.
    let settings = [("endpoint", "http://s3.store.example"), ("region", "eu-test-8"), ("path_style", "false")];
    let mut environment = environment.to_vec();
    environment.extend([("http_proxy", own), ("no_proxy", "127.0.0.1")]);
    let found = look(&installation, &settings, &environment).await?;
    ensure!(found["is_well"] == true, "{found}");
    all(&store.take(), "http://examplebucket.s3.store.example", "/", "ENVKEY", "eu-test-8", "env session")?;

    // No key anywhere but where a container gets it.
    let settings = [("endpoint", own), ("region", "eu-test-9")];
    let environment = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", credentials.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", password),
    ];
    let found = look(&installation, &settings, &environment).await?;
    ensure!(found["is_well"] == true, "{found}");
    let mut asked = store.take();
    let container = asked.iter().position(|asked| asked.line.starts_with("GET /credentials")).context("not asked")?;
    ensure!(asked.remove(container).field("authorization") == "let me in", "{asked:?}");
    asked.retain(|asked| !asked.line.starts_with("GET /credentials"));
    all(&asked, own, "/examplebucket", "CONTAINERKEY", "eu-test-9", "its session")
}

/// That an object was written, looked for and removed: there, by this key, for this region, within this session.
fn all(asked: &[Asked], server: &str, path: &str, key: &str, region: &str, session: &str) -> Result<()> {
    let verbs: Vec<&str> = asked.iter().filter_map(|asked| asked.line.split(' ').next()).collect();
    ensure!(verbs == ["PUT", "HEAD", "DELETE"] || verbs == ["PUT", "HEAD", "POST"], "{asked:?}");
    let host = server.strip_prefix("http://").unwrap_or(server);
    for one in asked {
        let target = one.line.split(' ').nth(1).unwrap_or_default();
        // A proxy is told the whole address.
        let target = target.strip_prefix(server).unwrap_or(target);
        ensure!(one.field("host") == host && target.starts_with(path), "{one:?}");
        ensure!(path != "/" || !target.contains("examplebucket"), "{one:?}");
        let scope = format!("/{region}/s3/aws4_request");
        let authorization = one.field("authorization");
        ensure!(authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={key}/")), "{one:?}");
        ensure!(authorization.contains(&scope), "{one:?}");
        ensure!(one.field("x-amz-security-token") == session, "{one:?}");
    }
    Ok(())
}
