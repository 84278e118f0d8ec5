//! `waltalkie schemas check` asks a real registry: what isn't there yet, what is, what may follow, what may not, and nobody.

use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use schemas::registry::Registry;
use schemas::{Cursor, Mark, Record};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Servers, program};

/// The command against a registry, under a prefix of one's own.
fn schemas(url: &str, prefix: &str, arguments: &[&str]) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WALTALKIE_") {
            command.env_remove(name);
        }
    }
    command.envs([("WALTALKIE_REGISTRY__URL", url), ("WALTALKIE_NAMES__PREFIX", prefix)]);
    Ok(command.arg("schemas").args(arguments).current_dir(folder.path()).output()?)
}

/// What it says of each subject.
fn verdicts(output: &Output) -> Result<Value> {
    let said: Value =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok(said["registry"].clone())
}

fn all_are(verdicts: &Value, wanted: &str) -> bool {
    let verdicts = verdicts.as_object();
    verdicts.is_some_and(|all| all.len() == 10 && all.values().all(|verdict| verdict["verdict"] == wanted))
}

/// A record's schema with its fields changed.
fn changed<R: Record>(change: impl Fn(&mut Vec<Value>)) -> Result<String> {
    let mut schema: Value = serde_json::from_str(R::SCHEMA)?;
    change(schema["fields"].as_array_mut().context("no fields")?);
    Ok(schema.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_check_says_what_the_registry_says() -> Result<()> {
    let url = Servers::shared()?.registry;
    let prefix = format!("t{}-", &Uuid::new_v4().simple().to_string()[..10]);
    let check = |arguments: &[&str]| schemas(&url, &prefix, &[&["check"], arguments].concat());
    let output = check(&["--json"])?;
    ensure!(output.status.success() && all_are(&verdicts(&output)?, "new"), "{output:?}");

    // Somebody else's version of one may come before ours, and of another one may not.
    let registry = Registry::new(&url, &prefix)?;
    let field = json!({ "name": "device", "type": ["null", "string"], "default": null, "doc": "New." });
    let may = changed::<Cursor>(|fields| fields.push(field.clone()))?;
    registry.register(&registry.subject::<Cursor>(), &may).await?;
    let may_not = changed::<Mark>(|fields| {
        let marked_at = fields.iter_mut().find(|field| field["name"] == "marked_at");
        if let Some(field) = marked_at {
            field["type"] = json!("string");
        }
    })?;
    registry.register(&registry.subject::<Mark>(), &may_not).await?;
    let output = check(&["--json"])?;
    let said = verdicts(&output)?;
    let of = |subject: String| said[&subject].clone();
    let (cursor, mark) = (of(registry.subject::<Cursor>()), of(registry.subject::<Mark>()));
    ensure!(cursor["verdict"] == "compatible", "{said}");
    ensure!(mark["verdict"] == "incompatible", "{said}");
    ensure!(output.status.code() == Some(1), "{output:?}");
    let output = check(&[])?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = format!("{}: INCOMPATIBLE under FULL_TRANSITIVE", registry.subject::<Mark>());
    ensure!(output.status.code() == Some(1) && text.contains(&line), "{text}");
    // Nor is it registered: the first that may not ends it.
    ensure!(!schemas(&url, &prefix, &["register"])?.status.success(), "it was registered");

    let clean = format!("{prefix}clean-");
    ensure!(schemas(&url, &clean, &["register"])?.status.success());
    let output = schemas(&url, &clean, &["check", "--json"])?;
    ensure!(output.status.success() && all_are(&verdicts(&output)?, "registered"), "{output:?}");

    // Nobody listens there.
    let output = schemas("http://127.0.0.1:1", &prefix, &["check"])?;
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && why.contains("no answer"), "{why}");
    ensure!(schemas("http://127.0.0.1:1", &prefix, &["check", "--offline"])?.status.success());
    Ok(())
}
