//! People who talk all the time: load clients that send, edit and delete, and write down what they see.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinHandle;
use uuid::Uuid;
use waltalkie::history::{self, History};
use waltalkie_client::{Client, Command, Options, Sender, Snapshot};

use crate::harness::{Installation, LONG, Person, until};

/// Chats of a crowd.
const CHATS: usize = 5;
/// Members of each.
const MEMBERS: usize = 10;
/// How often each person says something.
const PAUSE: Duration = Duration::from_millis(400);

/// The people, their clients and what they saw.
pub struct Crowd {
    clients: Vec<Client>,
    talking: Vec<JoinHandle<()>>,
    quiet: Arc<AtomicBool>,
    history: History,
    path: PathBuf,
}

impl Crowd {
    /// Makes people and chats; each person connects once.
    pub async fn gather(installation: &Installation, gateway: &str, size: usize, path: &Path) -> Result<Self> {
        let config = installation.config()?;
        let mut people = Vec::new();
        for number in 0..size {
            people.push(Person::arrive(&config, gateway, &format!("u{number:02}")).await?);
        }
        let mut chats_of: Vec<Vec<Arc<str>>> = vec![Vec::new(); size];
        for chat in 0..CHATS {
            let members: Vec<usize> =
                (0..MEMBERS.min(size)).map(|place| (chat * size / CHATS + place) % size).collect();
            let others: Vec<&Person> = members[1..].iter().map(|&member| &people[member]).collect();
            let id = people[members[0]].make_group(&others, json!({ "chat_id": format!("chat-{chat}") })).await?;
            let id: Arc<str> = id.into();
            for member in members {
                chats_of[member].push(Arc::clone(&id));
            }
        }
        let history = History::create(path).with_context(|| format!("making {}", path.display()))?;
        let quiet = Arc::new(AtomicBool::new(false));
        let (mut clients, mut talking) = (Vec::new(), Vec::new());
        for (number, (person, chats)) in people.into_iter().zip(chats_of).enumerate() {
            let mut options =
                Options::new(gateway, person.user_id.as_str(), person.token.as_str()).from_the_beginning();
            options.backoff_ms = (100, 1_000);
            let client = waltalkie_client::spawn(
                options,
                history.recorder(format!("{}/1", person.user_id), person.user_id.as_str()),
            );
            talking.push(tokio::spawn(talk(client.sender().clone(), chats, number as u64, Arc::clone(&quiet))));
            clients.push(client);
        }
        Ok(Self { clients, talking, quiet, history, path: path.to_owned() })
    }

    /// Writes something between the lines, such as a fault.
    pub async fn note(&self, text: &str) {
        self.history.note(text).await;
    }

    /// What was written so far.
    pub async fn lines(&self) -> Result<Vec<history::Record>> {
        anyhow::ensure!(self.history.sync().await, "the history can't be written");
        let path = self.path.clone();
        Ok(tokio::task::spawn_blocking(move || history::read(&path)).await??)
    }

    /// Waits until everybody was shown each of these chats up to the given place.
    pub async fn reach(&self, heads: &[(String, i64)]) -> Result<()> {
        until("everybody to be shown everything", LONG, async || {
            for client in &self.clients {
                let snapshot = client.snapshot().await;
                if let Some((chat, cursor, head)) = behind(&snapshot, heads) {
                    let is_in_step = snapshot.is_in_step;
                    bail!("{} is at {cursor} of {chat}, which is at {head}; in step: {is_in_step}", client.user_id());
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// Nobody says anything new; waits until each send has its final answer.
    pub async fn fall_silent(&mut self) -> Result<()> {
        self.quiet.store(true, Ordering::Relaxed);
        for talking in self.talking.drain(..) {
            talking.await?;
        }
        until("each send to have its answer", LONG, async || {
            for client in &self.clients {
                let pending = client.snapshot().await.pending;
                if pending > 0 {
                    bail!("{} waits for {pending} answers", client.user_id());
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// Everybody leaves; what they saw is in the lines.
    pub async fn leave(&mut self) {
        for client in self.clients.drain(..) {
            client.close().await;
        }
    }
}

/// The first chat in which a client is behind: its name, the cursor, and where it should be.
fn behind(snapshot: &Snapshot, heads: &[(String, i64)]) -> Option<(String, i64, i64)> {
    if !snapshot.is_in_step {
        return Some(("all chats".into(), 0, 0));
    }
    heads.iter().find_map(|(chat, head)| {
        let cursor = snapshot.cursor(chat)?;
        (cursor < *head).then(|| (chat.clone(), cursor, *head))
    })
}

/// Mostly sends; now and then an edit or a delete of something of one's own.
async fn talk(sender: Sender, chats: Vec<Arc<str>>, seed: u64, quiet: Arc<AtomicBool>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut said: Vec<(Arc<str>, Uuid)> = Vec::new();
    let mut next = tokio::time::interval(PAUSE);
    let mut number = 0_u64;
    while !quiet.load(Ordering::Relaxed) {
        next.tick().await;
        let dice = random.random_range(0..20);
        match said.last().cloned() {
            Some((chat, message_id)) if dice == 0 => {
                let content = format!("edited {number} canary:{chat}");
                sender.command(Command::edit(&chat, message_id, content)).await;
            }
            Some((chat, message_id)) if dice == 1 => {
                said.pop();
                sender.command(Command::delete(&chat, message_id)).await;
            }
            _ => {
                number += 1;
                let chat = &chats[random.random_range(0..chats.len())];
                let content = format!("number {number} of {} canary:{chat}", sender.user_id());
                said.push((Arc::clone(chat), sender.send(chat, content).await));
            }
        }
    }
}
