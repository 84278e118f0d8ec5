//! `permessage-deflate`, with a library that offers it, beside a client that doesn't.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Installation, Person, Servers, python};

const SCRIPT: &str = r#"
import asyncio, json, os, uuid
from websockets.asyncio.client import connect

async def main():
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"]}
    async with connect(os.environ["URL"], subprotocols=["waltalkie.v1"], additional_headers=headers) as socket:
        print([extension.name for extension in socket.protocol.extensions])
        if "CONTENT" not in os.environ:
            return
        payload = {"chat_id": os.environ["CHAT"], "message_id": str(uuid.uuid4()), "content": os.environ["CONTENT"]}
        await socket.send(json.dumps({"event": "send_message", "payload": payload}))
        async for text in socket:
            frame = json.loads(text)
            if frame["event"] == "message":
                print(frame["payload"]["content"] == os.environ["CONTENT"])
                return

asyncio.run(asyncio.wait_for(main(), 60))
"#;

async fn script(gateway: &str, person: &Person, chat_id: &str, content: Option<&str>) -> Result<String> {
    let mut command = Command::new(python()?);
    command.args(["-c", SCRIPT]).env("URL", format!("{}/v1/ws", gateway.replacen("http", "ws", 1)));
    command.env("TOKEN", &person.token).env("CHAT", chat_id);
    if let Some(content) = content {
        command.env("CONTENT", content);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_compressed_for_who_offers_it_where_it_is_on() -> Result<()> {
    let settings = [("gateway.compression", "true")];
    let installation = Installation::make_on(Servers::shared()?, "compression", &settings).await?;
    let process = installation.run(&["all"]).await?;
    let gateway = process.gateway()?;
    let alice = Person::arrive(&installation.config()?, gateway, "alice").await?;
    let bob = Person::arrive(&installation.config()?, gateway, "bob").await?;
    let chat_id = alice.make_group(&[&bob], json!({})).await?;
    let mut plain = bob.connect().await?;
    let content = "compress me ".repeat(500);
    ensure!(script(gateway, &alice, &chat_id, Some(&content)).await? == "['permessage-deflate']\nTrue\n");
    plain.wait("message", |message| message["content"] == content).await?;

    let without = Installation::make("no-compression").await?;
    let process = without.run(&["gateway"]).await?;
    let carol = Person::arrive(&without.config()?, process.gateway()?, "carol").await?;
    ensure!(script(process.gateway()?, &carol, "", None).await? == "[]\n", "off by default");
    Ok(())
}
