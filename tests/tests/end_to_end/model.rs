//! Random commands of several people against the real system and against a small model of a chat: equal at each step, and at
//! the end in what everybody sees by HTTP, in what a socket is told from the beginning, in what is unread, and in the history.
//! A case that fails is made smaller.

mod chat;
mod ends;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Answer, Installation, Person, Servers};

use chat::{Chat, Outcome};

const PEOPLE: [&str; 4] = ["ann", "ben", "cid", "dot"];
const CASES: u32 = 16;
const LONGEST: usize = 30;
/// A text that nobody sent.
const OTHER: &str = "something else";

/// What somebody does. People are places in [`PEOPLE`]; messages are places in the list of those sent so far, modulo its
/// length.
#[derive(Debug, Clone)]
enum Step {
    Say { who: usize, answers: Option<usize> },
    Again { who: usize, message: usize, is_changed: bool },
    Edit { who: usize, message: usize },
    Delete { who: usize, message: usize },
    Add { who: usize, whom: usize, role: &'static str },
    Remove { who: usize, whom: usize },
    Promote { who: usize, whom: usize, role: &'static str },
    Hide { who: usize, is_hidden: bool },
    Read { who: usize, seq: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let person = || 0..PEOPLE.len();
    let message = || 0..LONGEST;
    let role = || prop::sample::select(vec!["owner", "admin", "member"]);
    let step = prop_oneof![
        5 => (person(), prop::option::of(message())).prop_map(|(who, answers)| Step::Say { who, answers }),
        2 => (person(), message(), any::<bool>())
            .prop_map(|(who, message, is_changed)| Step::Again { who, message, is_changed }),
        2 => (person(), message()).prop_map(|(who, message)| Step::Edit { who, message }),
        2 => (person(), message()).prop_map(|(who, message)| Step::Delete { who, message }),
        3 => (person(), person(), role()).prop_map(|(who, whom, role)| Step::Add { who, whom, role }),
        2 => (person(), person()).prop_map(|(who, whom)| Step::Remove { who, whom }),
        2 => (person(), person(), role()).prop_map(|(who, whom, role)| Step::Promote { who, whom, role }),
        1 => (person(), any::<bool>()).prop_map(|(who, is_hidden)| Step::Hide { who, is_hidden }),
        1 => (person(), 1..LONGEST as i64).prop_map(|(who, seq)| Step::Read { who, seq }),
    ];
    prop::collection::vec(step, 1..LONGEST)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_system_does_what_the_model_does() -> Result<()> {
    let generous = [
        ("limits.commands_per_s", "100000"),
        ("limits.commands_burst", "100000"),
        ("limits.connections_per_user", "1000"),
    ];
    let installation = Installation::make_on(Servers::shared()?, "model", &generous).await?;
    let process = installation.run(&["all"]).await?;
    let config = installation.config()?;
    let played = Arc::new(Mutex::new(Vec::new()));
    let ended = Arc::clone(&played);
    let mut people = Vec::new();
    for name in PEOPLE {
        people.push(Person::arrive(&config, process.gateway()?, name).await?);
    }
    let handle = tokio::runtime::Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        runner.run(&steps(), |steps| {
            let ran = handle.block_on(play(&people, &steps));
            let chat = ran.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            ended.lock().unwrap_or_else(PoisonError::into_inner).push(chat);
            Ok(())
        })
    });
    checked.await?.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let played = std::mem::take(&mut *played.lock().unwrap_or_else(PoisonError::into_inner));
    ends::same_history(&config, &played).await
}

/// Plays a case; gives the chat, and how the model has it.
async fn play(people: &[Person], steps: &[Step]) -> Result<(String, Chat)> {
    let chat_id = people[0].make_group(&[], json!({})).await?;
    let mut model = Chat::made_by(0);
    let mut tried: Vec<Tried> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let Some(step) = step.among(tried.len()) else { continue };
        if let Step::Say { .. } = step {
            tried.push(Tried { message_id: Uuid::now_v7(), text: text(number) });
        }
        let answer = take(people, &chat_id, &step, number, &tried).await?;
        let expected = expect(&mut model, &step, number, &tried);
        let seen = outcome_of(&answer)?;
        ensure!(seen == expected, "step {number}, {step:?}: {seen:?} ({}), the model says {expected:?}", answer.body);
    }
    for (place, person) in people.iter().enumerate() {
        let page = person.get(&format!("/v1/chats/{chat_id}/messages?limit=200")).await?;
        let members = person.get(&format!("/v1/chats/{chat_id}/members")).await?;
        let Some(view) = model.view_of(place) else {
            page.expect_problem(404, "chat_not_found", Some("chat_id"))?;
            members.expect_problem(404, "chat_not_found", Some("chat_id"))?;
            continue;
        };
        same(person, &messages_of(&page.expect(200)?), &view)?;
        let expected: Vec<(String, String)> =
            model.members().map(|(place, role)| (PEOPLE[place].to_owned(), role.to_owned())).collect();
        same(person, &members_of(&members.expect(200)?), &expected)?;
    }
    for (place, person) in people.iter().enumerate() {
        ends::same_on_a_socket(person, &chat_id, model.told(place)).await?;
        ends::same_unread(person, &chat_id, model.unread_of(place)).await?;
    }
    Ok((chat_id, model))
}

/// A message that somebody tried to send.
struct Tried {
    message_id: Uuid,
    text: String,
}

fn text(number: usize) -> String {
    format!("text of step {number}")
}

impl Step {
    /// The step with places of messages that were tried; `None` if it needs one and there is none.
    fn among(&self, tried: usize) -> Option<Self> {
        let within = |place: usize| place.checked_rem(tried);
        Some(match *self {
            Self::Say { who, answers } => Self::Say { who, answers: answers.and_then(within) },
            Self::Again { who, message, is_changed } => Self::Again { who, message: within(message)?, is_changed },
            Self::Edit { who, message } => Self::Edit { who, message: within(message)? },
            Self::Delete { who, message } => Self::Delete { who, message: within(message)? },
            ref other => other.clone(),
        })
    }
}

fn same<T: PartialEq + Debug>(person: &Person, seen: &T, expected: &T) -> Result<()> {
    ensure!(seen == expected, "{} sees {seen:?}, the model says {expected:?}", person.user_id);
    Ok(())
}

fn messages_of(page: &Value) -> Vec<(i64, Option<String>)> {
    let list = page["messages"].as_array().cloned().unwrap_or_default();
    let text = |message: &Value| message["content"].as_str().map(str::to_owned);
    list.iter().map(|message| (message["seq"].as_i64().unwrap_or_default(), text(message))).collect()
}

fn members_of(page: &Value) -> Vec<(String, String)> {
    let list = page["members"].as_array().cloned().unwrap_or_default();
    let text = |member: &Value, name: &str| member[name].as_str().unwrap_or_default().to_owned();
    list.iter().map(|member| (text(member, "user_id"), text(member, "role"))).collect()
}

fn outcome_of(answer: &Answer) -> Result<Outcome> {
    let body = &answer.body;
    if answer.status.is_success() {
        return Ok(match body {
            body if body["seqs"].is_array() => Outcome::Seq(body["seqs"][0].as_i64()),
            body if body["deleted_shown_as"].is_string() || body["state"] == "accepted" => Outcome::Done,
            body => Outcome::Seq(body["seq"].as_i64()),
        });
    }
    let code = body["code"].as_str().with_context(|| format!("{}: {body}", answer.status))?;
    let known =
        ["chat_not_found", "message_not_found", "forbidden", "last_owner", "message_id_conflict", "user_not_found"];
    let known = known.into_iter().find(|known| *known == code);
    known.map(Outcome::Refused).with_context(|| format!("{}: {body}", answer.status))
}

fn expect(model: &mut Chat, step: &Step, number: usize, tried: &[Tried]) -> Outcome {
    match *step {
        Step::Say { who, answers } => model.say(who, tried.len() - 1, &text(number), answers),
        Step::Again { who, message, is_changed: true } => model.say(who, message, OTHER, None),
        Step::Again { who, message, .. } => model.say(who, message, &tried[message].text, None),
        Step::Edit { who, message } => model.edit(who, message, &text(number)),
        Step::Delete { who, message } => model.delete(who, message),
        Step::Add { who, whom, role } => model.add(who, whom, role),
        Step::Remove { who, whom } => model.remove(who, whom),
        Step::Promote { who, whom, role } => model.promote(who, whom, role),
        Step::Hide { who, is_hidden } => model.hide(who, is_hidden),
        Step::Read { who, seq } => model.read(who, seq),
    }
}

async fn take(people: &[Person], chat_id: &str, step: &Step, number: usize, tried: &[Tried]) -> Result<Answer> {
    let messages = format!("/v1/chats/{chat_id}/messages");
    let members = format!("/v1/chats/{chat_id}/members");
    match *step {
        Step::Say { who, answers } => {
            let Tried { message_id, text } = tried.last().context("it was just tried")?;
            let parent = answers.map(|place| tried[place].message_id);
            let body = json!({ "message_id": message_id, "content": text, "parent_message_id": parent });
            people[who].post(&messages, body).await
        }
        Step::Again { who, message, is_changed } => {
            let Tried { message_id, text } = &tried[message];
            let content = if is_changed { OTHER } else { text };
            people[who].post(&messages, json!({ "message_id": message_id, "content": content })).await
        }
        Step::Edit { who, message } => {
            let path = format!("{messages}/{}", tried[message].message_id);
            people[who].patch(&path, json!({ "content": text(number) })).await
        }
        Step::Delete { who, message } => people[who].delete(&format!("{messages}/{}", tried[message].message_id)).await,
        Step::Add { who, whom, role } => {
            people[who].post(&members, json!({ "user_ids": [PEOPLE[whom]], "role": role })).await
        }
        Step::Remove { who, whom } => people[who].delete(&format!("{members}/{}", PEOPLE[whom])).await,
        Step::Promote { who, whom, role } => {
            people[who].patch(&format!("{members}/{}", PEOPLE[whom]), json!({ "role": role })).await
        }
        Step::Hide { who, is_hidden } => {
            let body = json!({ "history_for_new_members": !is_hidden });
            people[who].patch(&format!("/v1/chats/{chat_id}"), body).await
        }
        Step::Read { who, seq } => people[who].post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": seq })).await,
    }
}
