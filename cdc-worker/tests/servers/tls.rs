//! A server that lets people in over TLS only, with a certificate of a private CA, and SCRAM-SHA-256.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{self, Stack, eventually, history_is_the_tables, read_events};
use anyhow::{Result, ensure};
use cdc_worker::failpoint::Failpoints;
use cdc_worker::replication::{Connection, ReplicationError};
use local_stack::{LonePostgres, PostgresVersion};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use runtime::names::Database;
use runtime::{Config, Secret};

const PASSWORD: &str = "secret";
/// The superuser of the local stack is asked for no TLS, so that the server can be seen to be ready.
const HBA: &str = "\
hostnossl all waltalkie 127.0.0.1/32 scram-sha-256
hostssl   all all       127.0.0.1/32 scram-sha-256
";

type Ca = CertifiedIssuer<'static, KeyPair>;

fn new_ca(folder: &Path, name: &str) -> Result<(Ca, PathBuf)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let file = folder.join(name);
    fs::write(&file, ca.pem())?;
    Ok((ca, file))
}

/// A server with a certificate for its address, that knows a role `secure`.
async fn with_tls(folder: &Path, ca: &Ca) -> Result<LonePostgres> {
    let mut plain = LonePostgres::start(PostgresVersion::V17, folder, &[]).await?;
    let sql = support::connect(&plain.url("postgres")).await?;
    sql.batch_execute(&format!("CREATE ROLE secure LOGIN REPLICATION CREATEDB PASSWORD '{PASSWORD}'")).await?;
    let owner = fs::metadata(plain.cluster_dir())?;
    plain.stop().await?;

    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, ca)?;
    let mut settings = vec![("ssl".to_owned(), "on".to_owned())];
    for (setting, name, text) in [
        ("ssl_cert_file", "server.crt", certificate.pem()),
        ("ssl_key_file", "server.key", key.serialize_pem()),
        ("hba_file", "hba.conf", HBA.to_owned()),
    ] {
        let file = plain.cluster_dir().join(name);
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        chown(&file, Some(owner.uid()), Some(owner.gid()))?;
        settings.push((setting.to_owned(), file.to_string_lossy().into_owned()));
    }
    drop(plain);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Ok(LonePostgres::start(PostgresVersion::V17, folder, &settings).await?)
}

/// The settings of `[postgres]` as a configuration with this login and CA has them.
fn settings(server: &LonePostgres, database: &str, ca_file: &Path) -> Result<runtime::config::Postgres> {
    let url = format!("postgres://secure:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=require", server.port());
    let variables = [
        ("WALTALKIE_POSTGRES__TRUTH_URL".to_owned(), url),
        ("WALTALKIE_POSTGRES__CA_FILE".to_owned(), ca_file.to_string_lossy().into_owned()),
    ];
    Ok(runtime::config::load(None, variables)?.postgres)
}

/// What a worker ends with, and what a replication connection alone.
async fn refusals(config: Config) -> Result<(String, ReplicationError)> {
    let server = runtime::postgres::parse(&config.postgres.truth_url, "postgres.truth_url")?;
    let connection = Connection::open(&server).await.err();
    let running = support::start(Arc::new(config), Failpoints::default());
    let error = tokio::time::timeout(support::PATIENCE, running.task).await??.expect_err("the worker ends");
    ensure!(!error.is_transient(), "{}", error.chain());
    Ok((error.chain(), connection.ok_or_else(|| anyhow::anyhow!("the connection was taken"))?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_goes_over_tls_with_a_private_ca() -> Result<()> {
    let (dir, certificates) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (ca, ca_file) = new_ca(certificates.path(), "ca.pem")?;
    let (_, wrong_file) = new_ca(certificates.path(), "wrong.pem")?;
    let server = with_tls(dir.path(), &ca).await?;

    let mut config = Stack::draft(&server.url("postgres"));
    let database = config.names().database(Database::Truth);
    config.postgres = settings(&server, "postgres", &ca_file)?;
    migrations::ensure_database(&config.postgres.truth_url, &database).await?;
    config.postgres = settings(&server, &database, &ca_file)?;
    let stack = Stack::of(config.clone(), server.url("postgres")).await?;

    let running = stack.start();
    stack.send_many("c", 1, 2_000).await?;
    eventually("2,000 events", async || Ok(read_events(&stack.config).await?.len() >= 2_000)).await?;
    let sql = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl),
                      count(*) FILTER (WHERE ssl AND application_name = 'waltalkie-cdc' AND backend_type = 'walsender')
                 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'secure'";
    let admin = support::connect(&server.url("postgres")).await?;
    let row = admin.query_one(sql, &[]).await?;
    let (with, without, streams): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    ensure!(with >= 3 && without == 0 && streams == 1, "{with} with TLS, {without} without, {streams} stream");
    running.stop().await?;
    ensure!(history_is_the_tables(&stack).await? == 2_000);

    // Without TLS nobody of that name gets in.
    let plain = format!("postgres://secure:{PASSWORD}@127.0.0.1:{}/{database}?sslmode=disable", server.port());
    ensure!(support::connect(&plain).await.is_err(), "the server takes connections without TLS");

    // Another CA, and the web's roots, don't vouch for this server.
    let mut web = settings(&server, &database, &ca_file)?;
    web.truth_url = Secret::new(plain.replace("disable", "require"));
    for postgres in [settings(&server, &database, &wrong_file)?, web] {
        let (said, connection) = refusals(Config { postgres, ..config.clone() }).await?;
        ensure!(said.contains("postgres.ca_file") && said.contains("UnknownIssuer"), "{said}");
        ensure!(matches!(connection, ReplicationError::Untrusted { .. }), "{connection}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_tls_is_named_where_tls_is_asked_for() -> Result<()> {
    let stack = Stack::new().await?;
    let mut config = (*stack.config).clone();
    config.postgres.truth_url = Secret::new(format!("{}?sslmode=require", config.postgres.truth_url.expose()));
    let (said, connection) = refusals(config).await?;
    ensure!(said.contains("sslmode=require") && said.contains("ssl = on"), "{said}");
    ensure!(matches!(connection, ReplicationError::Settings(_)), "{connection}");
    ensure!(connection.to_string().contains("ssl = on"), "{connection}");
    Ok(())
}
