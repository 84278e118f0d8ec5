//! People as most of these tests begin with them: who writes, who has a phone and is away, who is connected and takes what is said.

use anyhow::{Result, ensure};
use serde_json::json;
use waltalkie_tests::harness::{Person, RoleProcess, Socket};

use super::world::World;

/// Alice, who writes, and bob, who is away and has Apple's device 1.
pub(super) struct Pair {
    pub(super) alice: Person,
    pub(super) bob: Person,
    pub(super) chat_id: String,
}

/// Alice, who writes; bob, who is connected and takes what is said; carol, who is away. Apple's device 1 is bob's, 2 is carol's.
pub(super) struct Company {
    pub(super) alice: Person,
    pub(super) bob: Person,
    pub(super) chat_id: String,
    pub(super) there: Socket,
}

impl World {
    pub(super) async fn pair(&self, process: &RoleProcess) -> Result<Pair> {
        let alice = self.arrive(process, "alice").await?;
        let bob = self.arrive_with_phone(process, "bob", 1).await?;
        let chat_id = alice.make_group(&[&bob], json!({})).await?;
        Ok(Pair { alice, bob, chat_id })
    }

    /// With a first message behind them.
    pub(super) async fn company(&self, process: &RoleProcess) -> Result<Company> {
        self.company_at(process, process, "bob").await
    }

    /// The same with another name for bob, who is connected to a gateway of his own.
    pub(super) async fn company_at(&self, process: &RoleProcess, his: &RoleProcess, bob: &str) -> Result<Company> {
        let alice = self.arrive(process, "alice").await?;
        let bob = self.arrive_with_phone(his, bob, 1).await?;
        let carol = self.arrive_with_phone(process, "carol", 2).await?;
        let chat_id = alice.make_group(&[&bob, &carol], json!({})).await?;
        let there = bob.connect().await?;
        let mut company = Company { alice, bob, chat_id, there };
        company.say("before").await?;
        self.apple_has(2, 1).await?;
        self.settled().await?;
        Ok(company)
    }

    /// Carol, who is away, hears of `count` messages in all, and bob of none.
    pub(super) async fn only_who_is_away_is_told(&self, count: usize) -> Result<()> {
        self.apple_has(2, count).await?;
        self.settled().await?;
        ensure!(self.apple(1).is_empty(), "bob was here all the time: {:?}", self.apple(1));
        Ok(())
    }
}

impl Company {
    /// Alice says something and bob takes it.
    pub(super) async fn say(&mut self, content: &str) -> Result<()> {
        self.alice.say(&self.chat_id, content).await?;
        take(&mut self.there, content).await
    }
}

/// A device of whoever is there takes a message.
pub(super) async fn take(there: &mut Socket, content: &str) -> Result<()> {
    let message = there.wait("message", |message| message["content"] == content).await?;
    let marks = json!({ "marks": { message["chat_id"].as_str().unwrap_or_default(): message["seq"] } });
    there.send("mark_delivered", marks).await.map(drop)
}
