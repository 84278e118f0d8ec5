use proptest::prelude::*;
use schemas::{ChatSettings, CommandMember, event_type, ids};
use uuid::Uuid;

use super::*;
use crate::persister::book::*;

fn command(kind: &str, user: &str) -> ChatCommand {
    ChatCommand {
        command_id: Uuid::new_v4().to_string(),
        command_type: kind.into(),
        chat_id: "c".into(),
        user_id: user.into(),
        session_id: format!("session of {user}"),
        ..ChatCommand::default()
    }
}

fn send(user: &str, message_id: Uuid, content: &str) -> ChatCommand {
    ChatCommand {
        message_id: Some(message_id.to_string()),
        content: Some(content.into()),
        ..command(command_type::MESSAGE_SEND, user)
    }
}

fn about(kind: &str, user: &str, message_id: Uuid) -> ChatCommand {
    ChatCommand { message_id: Some(message_id.to_string()), content: Some("new".into()), ..command(kind, user) }
}

fn people(kind: &str, user: &str, members: &[(&str, Option<&str>)]) -> ChatCommand {
    let members = members
        .iter()
        .map(|(user_id, role)| CommandMember { user_id: (*user_id).into(), member_role: role.map(Into::into) })
        .collect();
    ChatCommand { members, ..command(kind, user) }
}

fn create(is_group: bool, user: &str, others: &[&str]) -> ChatCommand {
    let members: Vec<(&str, Option<&str>)> = others.iter().map(|user| (*user, None)).collect();
    ChatCommand {
        chat: Some(ChatSettings { is_group: Some(is_group), ..ChatSettings::default() }),
        ..people(command_type::CHAT_CREATE, user, &members)
    }
}

/// The body stands for its own hash here.
fn candidate(command: &ChatCommand) -> Candidate {
    let body_hash = command.content.clone().unwrap_or_default().into_bytes();
    Candidate { command: command.clone(), body_hash, refusal: None, span: None }
}

fn decide_all(book: &mut Book, commands: &[ChatCommand]) -> Decisions {
    let candidates: Vec<Candidate> = commands.iter().map(candidate).collect();
    decide(book, &candidates.iter().collect::<Vec<_>>())
}

/// What a single command is answered: its seq, or the code of its refusal.
fn one(book: &mut Book, command: ChatCommand) -> Result<Option<i64>, Code> {
    let mut decisions = decide_all(book, &[command]);
    let (answer, _) = decisions.answers.remove(0);
    answer.rejection.map_or(Ok(answer.seq), |rejection| Err(rejection.code))
}

fn group() -> Book {
    let mut book = Book { now_ms: 1_000, ..Book::default() };
    assert_eq!(one(&mut book, create(true, "owner", &["admin", "bob", "carol"])), Ok(Some(1)));
    let promote = people(command_type::MEMBERS_UPDATE, "owner", &[("admin", Some("admin"))]);
    assert_eq!(one(&mut book, promote), Ok(Some(2)));
    book
}

#[test]
fn a_repeated_send_keeps_its_place_whatever_happened_since() {
    let mut book = group();
    let id = Uuid::new_v4();
    assert_eq!(one(&mut book, send("bob", id, "hi")), Ok(Some(3)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, "bob", id)), Ok(Some(4)));
    assert_eq!(one(&mut book, send("bob", id, "hi")), Ok(Some(3)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_DELETE, "bob", id)), Ok(Some(5)));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_REMOVE, "owner", &[("bob", None)])), Ok(Some(6)));
    assert_eq!(one(&mut book, send("bob", id, "hi")), Ok(Some(3)));
    assert_eq!(one(&mut book, send("bob", id, "other")), Err(Code::MessageIdConflict));
    assert_eq!(one(&mut book, send("carol", id, "hi")), Err(Code::MessageIdConflict));
    assert_eq!(one(&mut book, send("bob", Uuid::new_v4(), "hi")), Err(Code::ChatNotFound));
}

#[test]
fn strangers_and_absent_chats_are_answered_alike() {
    let mut book = group();
    let id = Uuid::new_v4();
    assert_eq!(one(&mut book, send("bob", id, "hi")), Ok(Some(3)));
    let mut elsewhere = send("mallory", Uuid::new_v4(), "hi");
    elsewhere.chat_id = "nowhere".into();
    assert_eq!(one(&mut book, elsewhere), Err(Code::ChatNotFound));
    assert_eq!(one(&mut book, send("mallory", Uuid::new_v4(), "hi")), Err(Code::ChatNotFound));
    for kind in [command_type::MESSAGE_EDIT, command_type::MESSAGE_DELETE] {
        assert_eq!(one(&mut book, about(kind, "mallory", id)), Err(Code::ChatNotFound));
        // A member, but not the sender: as if there were no such message.
        assert_eq!(one(&mut book, about(kind, "carol", id)), Err(Code::MessageNotFound));
        assert_eq!(one(&mut book, about(kind, "carol", Uuid::new_v4())), Err(Code::MessageNotFound));
    }
    for kind in [command_type::MEMBERS_ADD, command_type::MEMBERS_REMOVE, command_type::MEMBERS_UPDATE] {
        assert_eq!(one(&mut book, people(kind, "mallory", &[("bob", Some("owner"))])), Err(Code::ChatNotFound));
    }
}

#[test]
fn admins_delete_what_others_said_and_nobody_edits_it() {
    let mut book = group();
    let id = Uuid::new_v4();
    assert_eq!(one(&mut book, send("bob", id, "hi")), Ok(Some(3)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, "admin", id)), Err(Code::MessageNotFound));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_DELETE, "admin", id)), Ok(Some(4)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_DELETE, "bob", id)), Ok(None), "deleted already");
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, "bob", id)), Err(Code::MessageNotFound));
}

#[test]
fn deleted_messages_leave_no_body_in_their_event() {
    let mut book = group();
    let id = Uuid::new_v4();
    let mut first = send("bob", id, "secret");
    first.app_data = Some("{\"a\":\"secret\"}".into());
    let decisions = decide_all(&mut book, &[first, about(command_type::MESSAGE_DELETE, "bob", id)]);
    let change = &decisions.rounds[0].changes[0];
    assert_eq!(change.event_type, event_type::MESSAGE_DELETED);
    assert!(!format!("{change:?}").contains("secret"));
    assert!(change.message.as_ref().unwrap().deleted_at.is_some());
}

#[test]
fn roles_decide_who_may_what() {
    let mut book = group();
    let add = |by: &str, role| people(command_type::MEMBERS_ADD, by, &[("new", role)]);
    assert_eq!(one(&mut book, add("bob", None)), Err(Code::Forbidden));
    assert_eq!(one(&mut book, add("admin", Some("owner"))), Err(Code::Forbidden));
    assert_eq!(one(&mut book, add("admin", None)), Ok(Some(3)));
    assert_eq!(one(&mut book, add("admin", None)), Ok(None), "a member already");
    let remove = |by: &str, who: &str| people(command_type::MEMBERS_REMOVE, by, &[(who, None)]);
    assert_eq!(one(&mut book, remove("bob", "carol")), Err(Code::Forbidden));
    assert_eq!(one(&mut book, remove("admin", "owner")), Err(Code::Forbidden));
    assert_eq!(one(&mut book, remove("admin", "new")), Ok(Some(4)));
    assert_eq!(one(&mut book, remove("bob", "bob")), Ok(Some(5)));
    let update = |by: &str, who: &str, role| people(command_type::MEMBERS_UPDATE, by, &[(who, Some(role))]);
    assert_eq!(one(&mut book, update("admin", "carol", "admin")), Err(Code::Forbidden));
    assert_eq!(one(&mut book, update("owner", "owner", "member")), Err(Code::LastOwner));
    assert_eq!(one(&mut book, remove("owner", "owner")), Err(Code::LastOwner));
    assert_eq!(one(&mut book, update("owner", "carol", "owner")), Ok(Some(6)));
    assert_eq!(one(&mut book, remove("owner", "owner")), Ok(Some(7)));
}

#[test]
fn the_last_member_of_a_group_may_leave() {
    let mut book = Book::default();
    assert_eq!(one(&mut book, create(true, "owner", &[])), Ok(Some(1)));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_REMOVE, "owner", &[("owner", None)])), Ok(Some(2)));
}

#[test]
fn a_pair_has_one_chat_and_keeps_it() {
    let mut book = Book::default();
    assert_eq!(one(&mut book, create(false, "alice", &["bob"])), Ok(Some(1)));
    assert_eq!(one(&mut book, create(false, "bob", &["alice"])), Ok(Some(1)));
    assert_eq!(one(&mut book, create(true, "alice", &["bob"])), Err(Code::ChatExists));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_ADD, "alice", &[("carol", None)])), Err(Code::Forbidden));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_REMOVE, "alice", &[("alice", None)])), Err(Code::Forbidden));
}

#[test]
fn a_late_command_undoes_nothing() {
    let mut book = group();
    let late_add = ChatCommand {
        based_on_seq: Some(2),
        session_id: "slow".into(),
        ..people(command_type::MEMBERS_ADD, "owner", &[("bob", None)])
    };
    assert_eq!(one(&mut book, people(command_type::MEMBERS_REMOVE, "owner", &[("bob", None)])), Ok(Some(3)));
    assert_eq!(one(&mut book, late_add.clone()), Err(Code::Conflict));
    assert_eq!(one(&mut book, ChatCommand { based_on_seq: Some(3), ..late_add }), Ok(Some(4)));
    let id = Uuid::new_v4();
    assert_eq!(one(&mut book, send("carol", id, "a")), Ok(Some(5)));
    let edit = |session: &str, based| ChatCommand {
        session_id: session.into(),
        based_on_seq: Some(based),
        ..about(command_type::MESSAGE_EDIT, "carol", id)
    };
    assert_eq!(one(&mut book, edit("phone", 5)), Ok(Some(6)));
    assert_eq!(one(&mut book, edit("laptop", 5)), Err(Code::Conflict));
    assert_eq!(one(&mut book, edit("phone", 5)), Ok(Some(7)), "a session's own edits apply in order");
}

#[test]
fn hidden_history_can_neither_be_answered_nor_changed() {
    let mut book = Book::default();
    let mut made = create(true, "owner", &[]);
    made.chat.as_mut().unwrap().history_for_new_members = Some(false);
    let id = Uuid::new_v4();
    assert_eq!(one(&mut book, made), Ok(Some(1)));
    assert_eq!(one(&mut book, send("owner", id, "before")), Ok(Some(2)));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_ADD, "owner", &[("bob", Some("admin"))])), Ok(Some(3)));
    let answer = ChatCommand { parent_message_id: Some(id.to_string()), ..send("bob", Uuid::new_v4(), "re") };
    assert_eq!(one(&mut book, answer), Err(Code::MessageNotFound));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_DELETE, "bob", id)), Err(Code::MessageNotFound));
}

#[derive(Debug, Clone)]
enum Step {
    Send(u8, u8),
    Edit(u8, u8),
    Delete(u8, u8),
    Add(u8, u8),
    Remove(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..5u8, 0..12u8).prop_map(|(user, message)| Step::Send(user, message)),
        1 => (0..5u8, 0..12u8).prop_map(|(user, message)| Step::Edit(user, message)),
        1 => (0..5u8, 0..12u8).prop_map(|(user, message)| Step::Delete(user, message)),
        1 => (0..5u8, 0..5u8).prop_map(|(user, other)| Step::Add(user, other)),
        1 => (0..5u8, 0..5u8).prop_map(|(user, other)| Step::Remove(user, other)),
    ]
}

fn command_of(step: &Step) -> ChatCommand {
    let user = |number: &u8| format!("u{number}");
    let id = |number: &u8| Uuid::from_u128(u128::from(*number) + 1);
    match step {
        Step::Send(by, message) => send(&user(by), id(message), &format!("text {message}")),
        Step::Edit(by, message) => about(command_type::MESSAGE_EDIT, &user(by), id(message)),
        Step::Delete(by, message) => about(command_type::MESSAGE_DELETE, &user(by), id(message)),
        Step::Add(by, other) => people(command_type::MEMBERS_ADD, &user(by), &[(&user(other), None)]),
        Step::Remove(by, other) => people(command_type::MEMBERS_REMOVE, &user(by), &[(&user(other), None)]),
    }
}

proptest! {
    /// Whatever is asked: seqs are dense, rows enter the log in their order, and batches don't change decisions.
    #[test]
    fn seqs_are_dense_in_log_order_however_batched(steps in proptest::collection::vec(step(), 0..60), split in 0..60usize) {
        let mut commands = vec![create(true, "u0", &["u1", "u2"])];
        commands.extend(steps.iter().map(command_of));
        let mut whole_book = Book::default();
        let whole = decide_all(&mut whole_book, &commands);

        let mut log = Vec::new();
        for round in &whole.rounds {
            log.extend(round.messages.iter().map(|message| message.seq));
            log.extend(round.changes.iter().map(|change| change.seq));
        }
        let last = whole_book.chats["c"].last_seq;
        prop_assert_eq!(log, (1..=last).collect::<Vec<_>>());

        let mut book = Book::default();
        let (head, tail) = commands.split_at(split.min(commands.len()));
        let mut parts = decide_all(&mut book, head).answers;
        parts.extend(decide_all(&mut book, tail).answers);
        let told = |answers: &[(Answer, bool)]| -> Vec<_> {
            answers.iter().map(|(answer, _)| (answer.seq, answer.rejection.clone())).collect()
        };
        prop_assert_eq!(told(&parts), told(&whole.answers));
    }
}

#[test]
fn who_came_back_still_edits_what_they_said_in_an_earlier_stay() {
    let mut book = group();
    let hide = ChatSettings { history_for_new_members: Some(false), ..ChatSettings::default() };
    let hide = ChatCommand { chat: Some(hide), ..command(command_type::CHAT_UPDATE, "owner") };
    assert_eq!(one(&mut book, hide), Ok(Some(3)));
    let (own, others) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(one(&mut book, send("bob", own, "hi")), Ok(Some(4)));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_REMOVE, "bob", &[("bob", None)])), Ok(Some(5)));
    assert_eq!(one(&mut book, send("carol", others, "while bob is away")), Ok(Some(6)));
    assert_eq!(one(&mut book, people(command_type::MEMBERS_ADD, "owner", &[("bob", None)])), Ok(Some(7)));
    let answer =
        |id: Uuid| ChatCommand { parent_message_id: Some(id.to_string()), ..send("bob", Uuid::new_v4(), "re") };
    assert_eq!(one(&mut book, answer(others)), Err(Code::MessageNotFound), "never visible to bob");
    assert_eq!(one(&mut book, answer(own)), Ok(Some(8)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, "bob", own)), Ok(Some(9)));
}

fn removal(user: &str) -> ChatCommand {
    people(command_type::PERSON_REMOVE, ids::SYSTEM, &[(user, None)])
}

#[test]
fn whoever_is_removed_hands_a_group_over_to_the_oldest_admin_else_the_oldest_member() {
    let mut book = group();
    let late = people(command_type::MEMBERS_ADD, "owner", &[("aaron", Some("admin")), ("abel", None)]);
    assert_eq!(one(&mut book, late), Ok(Some(3)));
    let decisions = decide_all(&mut book, &[removal("owner")]);
    let changes = &decisions.rounds[0].changes;
    let types: Vec<&str> = changes.iter().map(|change| change.event_type).collect();
    assert_eq!(types, [event_type::MEMBER_UPDATED, event_type::MEMBER_LEFT]);
    assert_eq!(changes.iter().map(|change| change.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(decisions.answers[0].0.seq, Some(5));
    let members = |number: usize| changes[number].memberships.as_ref().unwrap();
    assert_eq!((members(0)[0].user_id.as_str(), members(0)[0].member_role.as_str()), ("admin", "owner"));
    assert_eq!((members(1)[0].user_id.as_str(), members(1)[0].left_seq), ("owner", Some(5)));
    // The other admin, then the members by their time and name, then nobody.
    for (leaving, heir, seq) in
        [("admin", "aaron", 7), ("aaron", "bob", 9), ("bob", "carol", 11), ("carol", "abel", 13)]
    {
        assert_eq!(one(&mut book, removal(leaving)), Ok(Some(seq)), "{leaving}");
        assert_eq!(book.chats["c"].member(heir).unwrap().role.name(), "owner", "{heir}");
    }
    assert_eq!(one(&mut book, removal("abel")), Ok(Some(14)));
    assert_eq!(one(&mut book, removal("abel")), Ok(None));
    assert_eq!(book.chats["c"].open_stays, 0);
}

#[test]
fn removal_ends_one_to_one_chats_too_and_is_the_systems_alone() {
    let mut book = Book { now_ms: 1_000, ..Book::default() };
    assert_eq!(one(&mut book, create(false, "alice", &["bob"])), Ok(Some(1)));
    assert_eq!(one(&mut book, people(command_type::PERSON_REMOVE, "bob", &[("alice", None)])), Err(Code::ChatNotFound));
    assert_eq!(one(&mut book, removal("mallory")), Ok(None));
    assert_eq!(one(&mut book, removal("alice")), Ok(Some(2)));
    assert_eq!(one(&mut book, send("alice", Uuid::new_v4(), "still here?")), Err(Code::ChatNotFound));
    assert_eq!(one(&mut book, send("bob", Uuid::new_v4(), "alone")), Ok(Some(3)));
}

#[test]
fn the_system_sender_is_in_no_chat_and_may_what_owners_may() {
    let mut book = Book { now_ms: 1_000, ..Book::default() };
    let id = Uuid::new_v4();
    assert_eq!(one(&mut book, send(ids::SYSTEM, id, "welcome")), Err(Code::ChatNotFound));
    let create = ChatCommand {
        chat: Some(ChatSettings::default()),
        ..people(command_type::CHAT_CREATE, ids::SYSTEM, &[("alice", Some("owner")), ("bob", None)])
    };
    assert_eq!(one(&mut book, create), Ok(Some(1)));
    assert_eq!(book.chats["c"].open_stays, 2);
    assert!(book.chats["c"].member(ids::SYSTEM).is_none());
    assert_eq!(one(&mut book, send(ids::SYSTEM, id, "welcome")), Ok(Some(2)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, "alice", id)), Err(Code::MessageNotFound));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, ids::SYSTEM, id)), Ok(Some(3)));
    let said = Uuid::new_v4();
    assert_eq!(one(&mut book, send("bob", said, "rude")), Ok(Some(4)));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_EDIT, ids::SYSTEM, said)), Err(Code::MessageNotFound));
    assert_eq!(one(&mut book, about(command_type::MESSAGE_DELETE, ids::SYSTEM, said)), Ok(Some(5)));
    let promote = people(command_type::MEMBERS_UPDATE, ids::SYSTEM, &[("bob", Some("owner"))]);
    assert_eq!(one(&mut book, promote), Ok(Some(6)));
}

fn file(media_id: &str) -> schemas::Attachment {
    schemas::Attachment {
        media_id: media_id.into(),
        kind: "image".into(),
        file_name: "a.png".into(),
        content_type: "image/png".into(),
        size_bytes: 9,
        width_px: Some(3),
        height_px: Some(3),
        duration_ms: None,
        thumbhash: None,
    }
}

/// The group, and files as they were read with the batch.
fn group_with_files() -> Book {
    let mut book = group();
    let media = |user: &str, chat: &str, is_ready: bool, is_lost: bool| Media {
        chat_id: chat.into(),
        user_id: user.into(),
        attachment: is_ready.then(|| file("-")),
        is_lost,
        uses: 0,
    };
    for (id, media) in [
        ("bobs", media("bob", "c", true, false)),
        ("carols", media("carol", "c", true, false)),
        ("elsewhere", media("bob", "other", true, false)),
        ("early", media("bob", "c", false, false)),
        ("marked", media("bob", "c", false, true)),
    ] {
        let attachment = media.attachment.as_ref().map(|_| file(id));
        book.media.insert(id.into(), Media { attachment, ..media });
    }
    book
}

fn send_files(user: &str, message_id: Uuid, media: &[&str]) -> ChatCommand {
    ChatCommand { media_ids: media.iter().map(|id| (*id).to_owned()).collect(), ..send(user, message_id, "") }
}

#[test]
fn a_send_takes_only_ready_files_of_ones_own_for_this_chat() {
    let mut book = group_with_files();
    let mut sent = |media: &[&str]| one(&mut book, send_files("bob", Uuid::new_v4(), media));
    for wrong in [["carols"], ["elsewhere"], ["marked"], ["nothing"]] {
        assert_eq!(sent(&wrong), Err(Code::MediaNotFound), "{wrong:?}");
    }
    assert_eq!(sent(&["early"]), Err(Code::MediaNotReady));
    assert_eq!(sent(&["bobs", "carols"]), Err(Code::MediaNotFound));
    // Refusals take no seq.
    assert_eq!(sent(&["bobs"]), Ok(Some(3)));
}

#[test]
fn files_go_into_the_row_stay_through_edits_and_leave_with_the_last_message() {
    let mut book = group_with_files();
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    let decisions = decide_all(
        &mut book,
        &[
            send_files("bob", first, &["bobs"]),
            send_files("bob", second, &["bobs"]),
            about(command_type::MESSAGE_EDIT, "bob", first),
            about(command_type::MESSAGE_DELETE, "bob", first),
        ],
    );
    let sends = &decisions.rounds[0].messages;
    assert_eq!(sends[0].attachments.as_deref(), Some([file("bobs")].as_slice()));
    let changes: Vec<_> = decisions.rounds.iter().flat_map(|round| &round.changes).collect();
    let attachments = |at: usize| changes[at].message.as_ref().map(|message| message.attachments.clone());
    assert_eq!(attachments(0), Some(vec![file("bobs")]), "the edit keeps it");
    assert_eq!(attachments(1), Some(vec![]), "the deleted message has none");
    let posted = decisions.effects.iter().filter(|effect| matches!(effect, Effect::MediaPosted { .. })).count();
    assert_eq!(posted, 2);
    // Still in the second message; then in none, and nobody can post it any more.
    let third = Uuid::new_v4();
    assert!(one(&mut book, send_files("bob", third, &["bobs"])).is_ok());
    for message in [second, third] {
        assert!(one(&mut book, about(command_type::MESSAGE_DELETE, "bob", message)).is_ok());
    }
    assert_eq!(one(&mut book, send_files("bob", Uuid::new_v4(), &["bobs"])), Err(Code::MediaNotFound));
    // A repeat is known by its id, whatever became of the file.
    assert_eq!(one(&mut book, send_files("bob", first, &["bobs"])), Ok(Some(3)));
}
