//! Random commands of several people against the real system and against a small model of a chat: equal at each step, and at
//! the end in what everybody sees by HTTP, in what a socket is told from the beginning, in what is unread, and in the history.
//! Of two commands at once either may come first. The chat is a group, or the 1:1 chat of two, which they make themselves, again
//! and at once too. A case that fails is made smaller.

mod chat;
mod ends;

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use schemas::ids;
use serde_json::{Value, json};
use uuid::Uuid;
use waltalkie_tests::harness::{Answer, Installation, Person, Servers, Socket};

use chat::{Chat, Outcome};

const PEOPLE: [&str; 4] = ["ann", "ben", "cid", "dot"];
const CASES: u32 = 16;
const LONGEST: usize = 30;
/// A text that nobody sent.
const OTHER: &str = "something else";

#[derive(Debug, Clone, Copy)]
enum Kind {
    Group,
    /// Of the first two people.
    OneToOne,
}

/// What somebody does. People are places in [`PEOPLE`]; messages are places in the list of those sent so far, modulo its
/// length.
#[derive(Debug, Clone)]
enum Step {
    Say {
        who: usize,
        answers: Option<usize>,
        by_socket: bool,
    },
    Again {
        who: usize,
        message: usize,
        is_changed: bool,
    },
    Edit {
        who: usize,
        message: usize,
    },
    Delete {
        who: usize,
        message: usize,
    },
    Add {
        who: usize,
        whom: usize,
        role: &'static str,
    },
    Remove {
        who: usize,
        whom: usize,
    },
    Promote {
        who: usize,
        whom: usize,
        role: &'static str,
    },
    Hide {
        who: usize,
        is_hidden: bool,
    },
    Rename {
        who: usize,
    },
    Read {
        who: usize,
        seq: i64,
    },
    /// One of the first two makes their 1:1 chat.
    Meet {
        who: usize,
    },
}

/// What comes next.
#[derive(Debug, Clone)]
enum Turn {
    One(Step),
    /// Two at once. At most the first is a send, and the answers of both tell what was decided, not what is there now.
    Two(Step, Step),
}

/// What kind of chat, and what happens to it.
fn cases() -> impl Strategy<Value = (Kind, Vec<Turn>)> {
    let meet = || (0..2_usize).prop_map(|who| Step::Meet { who });
    let of_two = prop_oneof![
        // The third is a stranger.
        6 => turn(3),
        1 => meet().prop_map(Turn::One),
        1 => (meet(), meet()).prop_map(|(first, second)| Turn::Two(first, second)),
    ];
    prop_oneof![
        2 => (Just(Kind::Group), prop::collection::vec(turn(PEOPLE.len()), 1..LONGEST)),
        1 => (Just(Kind::OneToOne), prop::collection::vec(of_two, 1..LONGEST)),
    ]
}

/// Something that one of the first so many people does, or two of them at once.
fn turn(people: usize) -> impl Strategy<Value = Turn> {
    let person = move || 0..people;
    let message = || 0..LONGEST;
    let role = || prop::sample::select(vec!["owner", "admin", "member"]);
    let say = || {
        let parts = (person(), prop::option::of(message()), any::<bool>());
        parts.prop_map(|(who, answers, by_socket)| Step::Say { who, answers, by_socket })
    };
    let change = || {
        prop_oneof![
            2 => (person(), message()).prop_map(|(who, message)| Step::Delete { who, message }),
            3 => (person(), person(), role()).prop_map(|(who, whom, role)| Step::Add { who, whom, role }),
            3 => (person(), person()).prop_map(|(who, whom)| Step::Remove { who, whom }),
            2 => (person(), person(), role()).prop_map(|(who, whom, role)| Step::Promote { who, whom, role }),
        ]
    };
    let step = prop_oneof![
        5 => say(),
        2 => (person(), message(), any::<bool>())
            .prop_map(|(who, message, is_changed)| Step::Again { who, message, is_changed }),
        2 => (person(), message()).prop_map(|(who, message)| Step::Edit { who, message }),
        2 => (person(), message()).prop_map(|(who, message)| Step::Delete { who, message }),
        3 => (person(), person(), role()).prop_map(|(who, whom, role)| Step::Add { who, whom, role }),
        2 => (person(), person()).prop_map(|(who, whom)| Step::Remove { who, whom }),
        2 => (person(), person(), role()).prop_map(|(who, whom, role)| Step::Promote { who, whom, role }),
        1 => (person(), any::<bool>()).prop_map(|(who, is_hidden)| Step::Hide { who, is_hidden }),
        1 => person().prop_map(|who| Step::Rename { who }),
        1 => (person(), 1..LONGEST as i64).prop_map(|(who, seq)| Step::Read { who, seq }),
    ];
    prop_oneof![
        4 => step.prop_map(Turn::One),
        1 => (prop_oneof![say(), change()], change()).prop_map(|(first, second)| Turn::Two(first, second)),
    ]
}

/// Somebody, and the socket that they send by.
struct Actor {
    person: Person,
    socket: tokio::sync::Mutex<Socket>,
}

/// People of a case's own, in the order of [`PEOPLE`]: two people have one 1:1 chat for ever.
async fn arrive(config: &runtime::Config, gateway: &str) -> Result<Vec<Actor>> {
    let case = Uuid::now_v7().simple();
    let mut people = Vec::new();
    for name in PEOPLE {
        let person = Person::arrive(config, gateway, &format!("{name}-{case}")).await?;
        let socket = tokio::sync::Mutex::new(person.connect().await?);
        people.push(Actor { person, socket });
    }
    Ok(people)
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
    let (config, gateway) = (installation.config()?, process.gateway()?.to_owned());
    let played = Arc::new(Mutex::new(Vec::new()));
    let ended = Arc::clone(&played);
    let handle = tokio::runtime::Handle::current();
    let checked = tokio::task::spawn_blocking(move || {
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        runner.run(&cases(), |(kind, turns)| {
            let people = handle.block_on(arrive(&config, &gateway));
            let ran = people.and_then(|people| handle.block_on(play(&people, kind, &turns)));
            let chat = ran.map_err(|error| TestCaseError::fail(format!("{error:#}")))?;
            ended.lock().unwrap_or_else(PoisonError::into_inner).push(chat);
            Ok(())
        })
    });
    checked.await?.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let played = std::mem::take(&mut *played.lock().unwrap_or_else(PoisonError::into_inner));
    ends::same_history(&installation.config()?, &played).await
}

/// Plays a case; gives the chat, and how the model has it.
async fn play(people: &[Actor], kind: Kind, turns: &[Turn]) -> Result<(String, Chat)> {
    let [first, second] = [&people[0].person, &people[1].person];
    let (chat_id, mut model) = match kind {
        Kind::Group => (first.make_group(&[], json!({ "name": OTHER })).await?, Chat::made_by(0, OTHER)),
        // It isn't there until one of them makes it.
        Kind::OneToOne => (ids::one_to_one_chat(&first.user_id, &second.user_id), Chat::default()),
    };
    let mut tried: Vec<Tried> = Vec::new();
    for (number, turn) in turns.iter().enumerate() {
        let Some(turn) = turn.among(tried.len()) else { continue };
        if let Turn::One(Step::Say { .. }) | Turn::Two(Step::Say { .. }, _) = turn {
            tried.push(Tried { message_id: Uuid::now_v7(), text: text(number) });
        }
        match &turn {
            Turn::One(step) => {
                let seen = take(people, &chat_id, step, number, &tried).await?;
                let expected = expect(&mut model, step, number, &tried);
                ensure!(seen == expected, "step {number}, {step:?}: {seen:?}, the model says {expected:?}");
            }
            Turn::Two(first, second) => {
                let (one, other) = tokio::try_join!(
                    take(people, &chat_id, first, number, &tried),
                    take(people, &chat_id, second, number, &tried),
                )?;
                let seen = (one, other);
                let mut ends = in_either_order(&model, first, second, number, &tried);
                let end = ends.iter().position(|(expected, _)| *expected == seen);
                let expected: Vec<_> = ends.iter().map(|(expected, _)| expected.clone()).collect();
                let end = end.with_context(|| format!("{number}, {turn:?}: {seen:?}, the model says {expected:?}"))?;
                model = ends.swap_remove(end).1;
            }
        }
    }
    for (place, Actor { person, .. }) in people.iter().enumerate() {
        let view = model.view_of(place);
        let own: Vec<String> = view.is_some().then(|| chat_id.clone()).into_iter().collect();
        same(person, &chats_of(&person.get("/v1/chats").await?.expect(200)?), &own)?;
        let page = person.get(&format!("/v1/chats/{chat_id}/messages?limit=200")).await?;
        let members = person.get(&format!("/v1/chats/{chat_id}/members")).await?;
        let Some(view) = view else {
            page.expect_problem(404, "chat_not_found", Some("chat_id"))?;
            members.expect_problem(404, "chat_not_found", Some("chat_id"))?;
            continue;
        };
        same(person, &messages_of(&page.expect(200)?), &view)?;
        let expected: Vec<(String, String)> =
            model.members().map(|(place, role)| (people[place].person.user_id.clone(), role.to_owned())).collect();
        same(person, &members_of(&members.expect(200)?), &expected)?;
        let chat = person.get(&format!("/v1/chats/{chat_id}")).await?.expect(200)?;
        same(person, &chat["name"].as_str(), &Some(model.name()))?;
    }
    for (place, Actor { person, .. }) in people.iter().enumerate() {
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
            Self::Say { who, answers, by_socket } => Self::Say { who, answers: answers.and_then(within), by_socket },
            Self::Again { who, message, is_changed } => Self::Again { who, message: within(message)?, is_changed },
            Self::Edit { who, message } => Self::Edit { who, message: within(message)? },
            Self::Delete { who, message } => Self::Delete { who, message: within(message)? },
            ref other => other.clone(),
        })
    }

    /// Whose membership it is about.
    fn whom(&self) -> Option<usize> {
        match *self {
            Self::Add { whom, .. } | Self::Remove { whom, .. } | Self::Promote { whom, .. } => Some(whom),
            _ => None,
        }
    }
}

impl Turn {
    /// As [`Step::among`].
    fn among(&self, tried: usize) -> Option<Self> {
        Some(match self {
            Self::One(step) => Self::One(step.among(tried)?),
            Self::Two(first, second) => Self::Two(first.among(tried)?, second.among(tried)?),
        })
    }
}

/// What two commands at once may be answered, and how the chat is then: whichever came first. The later one may have been
/// made before the earlier one was decided, and is refused then if both are about the same person's membership. Of two who make
/// their 1:1 chat each may be told that it is new.
fn in_either_order(
    model: &Chat,
    first: &Step,
    second: &Step,
    number: usize,
    tried: &[Tried],
) -> Vec<((Outcome, Outcome), Chat)> {
    let mut ends = Vec::new();
    for is_turned in [false, true] {
        let (earlier, later) = if is_turned { (second, first) } else { (first, second) };
        let as_asked = |of_earlier: Outcome, of_later: Outcome| {
            if is_turned { (of_later, of_earlier) } else { (of_earlier, of_later) }
        };
        let mut between = model.clone();
        let of_earlier = expect(&mut between, earlier, number, tried);
        let mut end = between.clone();
        let of_later = expect(&mut end, later, number, tried);
        // Whether they are in the chat at all is looked at first.
        let is_member = of_later != Outcome::Refused("chat_not_found");
        let is_changed = matches!(of_earlier, Outcome::Seq(Some(_)));
        if earlier.whom().is_some() && earlier.whom() == later.whom() && is_changed && is_member {
            ends.push((as_asked(of_earlier.clone(), Outcome::Refused("conflict")), between));
        }
        if matches!((earlier, later), (Step::Meet { .. }, Step::Meet { .. })) && of_earlier == Outcome::Made {
            ends.push((as_asked(Outcome::Made, Outcome::Made), end.clone()));
        }
        ends.push((as_asked(of_earlier, of_later), end));
    }
    ends
}

fn same<T: PartialEq + Debug>(person: &Person, seen: &T, expected: &T) -> Result<()> {
    ensure!(seen == expected, "{} sees {seen:?}, the model says {expected:?}", person.user_id);
    Ok(())
}

fn chats_of(page: &Value) -> Vec<String> {
    let list = page["chats"].as_array().cloned().unwrap_or_default();
    list.iter().map(|chat| chat["chat_id"].as_str().unwrap_or_default().to_owned()).collect()
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
            body if body["deleted_shown_as"].is_string() && answer.status == 201 => Outcome::Made,
            body if body["deleted_shown_as"].is_string() || body["state"] == "accepted" => Outcome::Done,
            body => Outcome::Seq(body["seq"].as_i64()),
        });
    }
    refusal_of(&body["code"]).with_context(|| format!("{}: {body}", answer.status))
}

fn refusal_of(code: &Value) -> Option<Outcome> {
    let known = [
        "chat_not_found",
        "message_not_found",
        "forbidden",
        "last_owner",
        "message_id_conflict",
        "user_not_found",
        "conflict",
    ];
    known.into_iter().find(|known| code == known).map(Outcome::Refused)
}

fn expect(model: &mut Chat, step: &Step, number: usize, tried: &[Tried]) -> Outcome {
    match *step {
        Step::Say { who, answers, .. } => model.say(who, tried.len() - 1, &text(number), answers),
        Step::Again { who, message, is_changed: true } => model.say(who, message, OTHER, None),
        Step::Again { who, message, .. } => model.say(who, message, &tried[message].text, None),
        Step::Edit { who, message } => model.edit(who, message, &text(number)),
        Step::Delete { who, message } => model.delete(who, message),
        Step::Add { who, whom, role } => model.add(who, whom, role),
        Step::Remove { who, whom } => model.remove(who, whom),
        Step::Promote { who, whom, role } => model.promote(who, whom, role),
        Step::Hide { who, is_hidden } => model.hide(who, is_hidden),
        Step::Rename { who } => model.rename(who, &text(number)),
        Step::Read { who, seq } => model.read(who, seq),
        Step::Meet { .. } => model.meet([0, 1], &text(number)),
    }
}

async fn take(people: &[Actor], chat_id: &str, step: &Step, number: usize, tried: &[Tried]) -> Result<Outcome> {
    if let Step::Say { who, answers, by_socket: true } = *step {
        let Tried { message_id, text } = tried.last().context("it was just tried")?;
        let mut payload = json!({ "chat_id": chat_id, "message_id": message_id, "content": text });
        if let Some(place) = answers {
            payload["parent_message_id"] = json!(tried[place].message_id);
        }
        let mut socket = people[who].socket.lock().await;
        return say(&mut socket, payload).await;
    }
    outcome_of(&ask(people, chat_id, step, number, tried).await?)
}

/// Sends by a socket.
async fn say(socket: &mut Socket, payload: Value) -> Result<Outcome> {
    let given_up = json!({ "chat_id": payload["chat_id"], "message_id": payload["message_id"] });
    let asked = socket.send("send_message", payload).await?;
    let is_decided = |frame: &Value| frame["event"] == "error" || frame["payload"]["state"] == "persisted";
    let answer = socket.answer(asked, is_decided).await?;
    if answer["event"] == "ack" {
        return Ok(Outcome::Seq(answer["payload"]["seq"].as_i64()));
    }
    // Or later sends of the chat would wait until it is sent again.
    let discarded = socket.send("discard_message", given_up).await?;
    socket.answer(discarded, |frame| frame["event"] == "ack").await?;
    refusal_of(&answer["payload"]["code"]).with_context(|| format!("{answer}"))
}

/// By HTTP.
async fn ask(people: &[Actor], chat_id: &str, step: &Step, number: usize, tried: &[Tried]) -> Result<Answer> {
    let person = |who: usize| &people[who].person;
    let messages = format!("/v1/chats/{chat_id}/messages");
    let members = format!("/v1/chats/{chat_id}/members");
    match *step {
        Step::Say { who, answers, .. } => {
            let Tried { message_id, text } = tried.last().context("it was just tried")?;
            let parent = answers.map(|place| tried[place].message_id);
            let body = json!({ "message_id": message_id, "content": text, "parent_message_id": parent });
            person(who).post(&messages, body).await
        }
        Step::Again { who, message, is_changed } => {
            let Tried { message_id, text } = &tried[message];
            let content = if is_changed { OTHER } else { text };
            person(who).post(&messages, json!({ "message_id": message_id, "content": content })).await
        }
        Step::Edit { who, message } => {
            let path = format!("{messages}/{}", tried[message].message_id);
            person(who).patch(&path, json!({ "content": text(number) })).await
        }
        Step::Delete { who, message } => person(who).delete(&format!("{messages}/{}", tried[message].message_id)).await,
        Step::Add { who, whom, role } => {
            person(who).post(&members, json!({ "user_ids": [person(whom).user_id], "role": role })).await
        }
        Step::Remove { who, whom } => person(who).delete(&format!("{members}/{}", person(whom).user_id)).await,
        Step::Promote { who, whom, role } => {
            person(who).patch(&format!("{members}/{}", person(whom).user_id), json!({ "role": role })).await
        }
        Step::Hide { who, is_hidden } => {
            let body = json!({ "history_for_new_members": !is_hidden });
            person(who).patch(&format!("/v1/chats/{chat_id}"), body).await
        }
        Step::Rename { who } => {
            person(who).patch(&format!("/v1/chats/{chat_id}"), json!({ "name": text(number) })).await
        }
        Step::Read { who, seq } => person(who).post(&format!("/v1/chats/{chat_id}/read"), json!({ "seq": seq })).await,
        Step::Meet { who } => {
            let body = json!({ "is_group": false, "member_ids": [person(1 - who).user_id], "name": text(number) });
            person(who).post("/v1/chats", body).await
        }
    }
}
