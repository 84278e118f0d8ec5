//! Every role under a user of its own, on a broker with an authorizer, with the rights that the operators' page names and no more:
//! it does its work, and whoever lacks a right ends and says where it is written.

use std::fs;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use local_stack::LoneKafka;
use notify::fakes::FcmFake;
use schemas::topics::Topic;
use serde_json::json;
use waltalkie_tests::harness::{Installation, LONG, Person, RoleProcess, Servers, read_all, repository, until, within};

const PASSWORD: &str = "secret";
/// Those that Kafka knows; the janitor doesn't need it.
const ROLES: [&str; 7] = ["gateway", "persister", "cdc", "projector", "publisher", "operators", "notifier"];

fn user(role: &str) -> String {
    format!("waltalkie_{role}")
}

/// Runs the page's lines for a role.
async fn allow(kafka: &LoneKafka, installation: &Installation, page: &str, role: &str) -> Result<()> {
    let names = installation.names();
    let of_role = format!(" User:{} ", user(role));
    let lines = page.lines().filter(|line| line.starts_with("kafka-acls.sh ") && line.contains(&of_role));
    let lines: Vec<String> =
        lines.map(|line| line.replace("${P}", names.prefix()).replace("$SLOT", &names.slot())).collect();
    ensure!(!lines.is_empty(), "the page has no rights for {role}");
    for line in lines {
        let (_, arguments) = line.split_once("\"$KAFKA\" ").context("another line than expected")?;
        let arguments: Vec<&str> = arguments.split(' ').map(|argument| argument.trim_matches('"')).collect();
        kafka.run_tool("org.apache.kafka.tools.AclCommand", &arguments).await?;
    }
    Ok(())
}

async fn run(installation: &Installation, kafka: &LoneKafka, role: &str) -> Result<RoleProcess> {
    let (brokers, user) = (kafka.brokers(), user(role));
    let login = [
        ("kafka.brokers", brokers.as_str()),
        ("kafka.security_protocol", "sasl_plaintext"),
        ("kafka.sasl_username", &user),
        ("kafka.sasl_password", PASSWORD),
        ("operators.gather_ms", "50"),
    ];
    installation.run_with(&[role], &login).await.with_context(|| role.to_owned())
}

/// The publisher under a user who may not read what it reads: it doesn't wait for rights, which nobody would hear of.
async fn is_refused(installation: &Installation, kafka: &LoneKafka, role: &str) -> Result<()> {
    let mut command = tokio::process::Command::from(installation.command()?);
    command.args(["run", "publisher"]).kill_on_drop(true).envs([
        ("WALTALKIE_KAFKA__BROKERS", kafka.brokers()),
        ("WALTALKIE_KAFKA__SECURITY_PROTOCOL", "sasl_plaintext".to_owned()),
        ("WALTALKIE_KAFKA__SASL_USERNAME", user(role)),
        ("WALTALKIE_KAFKA__SASL_PASSWORD", PASSWORD.to_owned()),
    ]);
    let what = format!("the publisher to end under {}", user(role));
    let output = within(&what, LONG, command.output()).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success() && said.contains("has the ACLs"), "{what}: {}\n{said}", output.status);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_work_with_the_rights_of_the_page() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let users = ROLES.map(user);
    let users: Vec<(&str, &str)> = users.iter().map(|user| (user.as_str(), PASSWORD)).collect();
    let kafka = LoneKafka::start(folder.path(), &users).await?;
    let servers = Servers { kafka: kafka.admin_brokers(), ..Servers::shared()? };
    // Without a way out the notifier would have nothing to do.
    runtime::tls::install_provider();
    let fcm = FcmFake::start().await.config();
    let settings = [
        ("notify.public_url", "http://chat.example"),
        ("notify.fcm_service_account", fcm.service_account.expose()),
        ("notify.fcm_endpoint", fcm.endpoint.as_str()),
    ];
    let installation = Installation::make_on(servers, "role-rights", &settings).await?;
    is_refused(&installation, &kafka, "publisher").await?;
    let page = fs::read_to_string(repository().join("docs/operators.md"))?;
    try_join_all(ROLES.iter().map(|role| allow(&kafka, &installation, &page, role))).await?;
    is_refused(&installation, &kafka, "gateway").await?;

    let mut processes = try_join_all(ROLES.iter().map(|role| run(&installation, &kafka, role))).await?;
    let config = installation.config()?;
    let alice = Person::arrive(&config, processes[0].gateway()?, "alice").await?;
    let bob = Person::arrive(&config, processes[0].gateway()?, "bob").await?;
    let tablet = json!({ "device_id": "tablet", "platform": "android", "address": "android-7" });
    bob.post("/v1/users/me/devices", tablet).await?.expect(201)?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    alice.say(&chat_id, "while bob is away").await?;
    // Before he comes, who would have read it otherwise when the notifier looks: a new Redis knows of nobody for ten seconds.
    until("a notification", LONG, async || {
        Ok((!read_all(&config, Topic::ChatNotifications).await?.is_empty()).then_some(()))
    })
    .await?;
    let mut socket = bob.connect().await?;
    let said = alice.say(&chat_id, "hello").await?;
    socket.wait("message", |payload| payload["message_id"] == said["message_id"]).await?;
    socket.send("mark_read", json!({ "marks": { &chat_id: said["seq"] } })).await?;
    let read = installation.read().await?;
    let sql = "SELECT EXISTS (SELECT FROM chat_cursor WHERE read_seq = $1) AND EXISTS (SELECT FROM inbox_cursor WHERE delivered_seq = $1)
                  AND EXISTS (SELECT FROM chat_head WHERE head_seq = $1)";
    let seq = said["seq"].as_i64().context("no seq")?;
    until("the read models", LONG, async || Ok(read.query_one(sql, &[&seq]).await?.get::<_, bool>(0).then_some(())))
        .await?;
    until("the operators' state", LONG, async || {
        Ok((!read_all(&config, Topic::OperatorsState).await?.is_empty()).then_some(()))
    })
    .await?;
    for (role, process) in ROLES.iter().zip(&processes) {
        ensure!(process.is_ready().await, "{role}: {}", process.log_end());
    }

    // A right that is taken away: the role ends, and the process says why for a while before it does.
    let (principal, events) = (format!("User:{}", user("publisher")), installation.names().topic(Topic::ChatEvents));
    let remove = ["--remove", "--force", "--allow-principal", &principal, "--operation", "Read", "--topic", &events];
    kafka.run_tool("org.apache.kafka.tools.AclCommand", &remove).await?;
    let mut running = ROLES.iter().zip(&mut processes);
    let (_, publisher) = running.find(|(role, _)| **role == "publisher").context("no publisher")?;
    let url = format!("{}/readyz", publisher.ops_url);
    let client = reqwest::Client::new();
    until("its last words", LONG, async || {
        Ok(client.get(&url).send().await?.text().await?.contains("has the ACLs").then_some(()))
    })
    .await?;
    until("its end", LONG, async || Ok((!publisher.is_running()?).then_some(()))).await?;
    Ok(())
}
