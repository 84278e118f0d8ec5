use proptest::prelude::*;

use super::*;

const MOST: usize = 3;

fn ids(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

fn turn(present: &mut Present, here: &[&str], now_ms: u64) -> Turn {
    present.turn("n1", ids(here).iter(), now_ms, MOST)
}

fn named(turn: &Turn) -> Vec<(String, State)> {
    let mut changes: Vec<_> = turn.changes.iter().map(|(user_id, state)| (user_id.to_string(), *state)).collect();
    changes.sort_by(|a, b| a.0.cmp(&b.0));
    changes
}

fn of_node(node: &str, online: &[&str], offline: &[(&str, i64)]) -> Announcement {
    Announcement {
        node: node.into(),
        ask: false,
        online: online.iter().map(ToString::to_string).collect(),
        offline: offline.iter().map(|(id, at)| ((*id).to_owned(), *at)).collect(),
    }
}

#[test]
fn who_comes_and_goes_is_told_once() {
    let mut present = Present::default();
    let first = turn(&mut present, &["ana"], 0);
    assert_eq!(named(&first), [("ana".into(), State::Online)]);
    assert_eq!(first.announcement, Some(of_node("n1", &["ana"], &[])));
    let nothing = turn(&mut present, &["ana"], 500);
    assert!(nothing.changes.is_empty() && nothing.announcement.is_none() && nothing.next_ms.is_none());

    present.left(&Arc::from("ana"), 1_000, 77);
    let within = turn(&mut present, &[], 1_500);
    assert!(within.changes.is_empty(), "she may come back");
    assert_eq!(within.next_ms, Some(4_000));
    let after = turn(&mut present, &[], 4_000);
    assert_eq!(named(&after), [("ana".into(), State::Offline(Some(77)))]);
    assert_eq!(after.announcement, Some(of_node("n1", &[], &[("ana", 77)])));
}

#[test]
fn who_comes_back_was_never_away() {
    let mut present = Present::default();
    turn(&mut present, &["ana"], 0);
    present.left(&Arc::from("ana"), 1_000, 77);
    let back = turn(&mut present, &["ana"], 2_000);
    assert!(back.changes.is_empty() && back.announcement.is_none() && back.next_ms.is_none());
}

#[test]
fn people_of_other_nodes_stay_until_the_last_node_says_so_or_dies() {
    let mut present = Present::default();
    present.hear(of_node("n2", &["bob"], &[]));
    present.hear(of_node("n3", &["bob"], &[]));
    assert_eq!(named(&turn(&mut present, &[], 0)), [("bob".into(), State::Online)]);
    present.hear(of_node("n2", &[], &[("bob", 5)]));
    assert!(turn(&mut present, &[], 1).changes.is_empty());
    assert!(!present.node_gone("n2", 8), "nobody of the chat is there any more");
    assert!(present.node_gone("n3", 9));
    assert_eq!(named(&turn(&mut present, &[], 2)), [("bob".into(), State::Offline(Some(9)))]);
}

#[test]
fn nodes_ask_and_answer() {
    let mut present = Present::default();
    turn(&mut present, &["ana"], 0);
    present.ask();
    let asking = turn(&mut present, &["ana"], 1).announcement.expect("a question");
    assert!(asking.ask);
    assert_eq!(asking.online, ["ana"], "who asks may have been forgotten too");
    present.hear(Announcement { node: "n2".into(), ask: true, ..Announcement::default() });
    assert_eq!(turn(&mut present, &["ana"], 2).announcement, Some(of_node("n1", &["ana"], &[])));
}

#[test]
fn in_a_large_chat_nobody_is_told_of_anybody() {
    let mut present = Present::default();
    turn(&mut present, &["a", "b"], 0);
    present.hear(of_node("n2", &["c", "d"], &[]));
    let large = turn(&mut present, &["a", "b"], 1);
    assert_eq!(named(&large), [("a".into(), State::Offline(None)), ("b".into(), State::Offline(None))]);
    assert!(large.announcement.is_none(), "what was announced stays so");
    present.hear(of_node("n2", &[], &[("c", 1)]));
    assert_eq!(turn(&mut present, &["a", "b"], 2).changes.len(), 3);
    assert!(turn(&mut present, &["a", "b", "e", "f"], 3).announcement.is_none(), "too many here alone");
}

#[derive(Debug, Clone)]
enum Step {
    Come(usize, u8),
    Go(usize, u8),
    Turn(usize),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2usize, 0..3u8).prop_map(|(node, user)| Step::Come(node, user)),
        (0..2usize, 0..3u8).prop_map(|(node, user)| Step::Go(node, user)),
        (0..2usize).prop_map(Step::Turn),
        Just(Step::Wait),
    ]
}

proptest! {
    /// Whatever happens in between: once things are at rest, both nodes have told exactly who is connected anywhere.
    #[test]
    fn two_nodes_agree_at_rest(steps in proptest::collection::vec(step(), 0..60)) {
        let names = ids(&["ana", "bob", "cem"]);
        let nodes = ["n0", "n1"];
        let mut presents = [Present::default(), Present::default()];
        let mut here: [HashSet<Arc<str>>; 2] = Default::default();
        let mut shown: [HashSet<Arc<str>>; 2] = Default::default();
        let mut now_ms = 0;
        let rest = [Step::Wait, Step::Turn(0), Step::Turn(1), Step::Turn(0), Step::Turn(1)];
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Come(node, user) => {
                    here[node].insert(Arc::clone(&names[user as usize]));
                }
                Step::Go(node, user) => {
                    let user = &names[user as usize];
                    if here[node].remove(user) {
                        presents[node].left(user, now_ms, now_ms as i64 + 1);
                    }
                }
                Step::Wait => now_ms += GRACE_MS,
                Step::Turn(node) => {
                    let turn = presents[node].turn(nodes[node], here[node].iter(), now_ms, MOST);
                    for (user, state) in turn.changes {
                        let is_new = match state {
                            State::Online => shown[node].insert(user),
                            State::Offline(_) => shown[node].remove(&user),
                        };
                        prop_assert!(is_new, "told twice");
                    }
                    if let Some(announcement) = turn.announcement {
                        presents[1 - node].hear(announcement);
                    }
                }
            }
        }
        let everybody: HashSet<Arc<str>> = here[0].union(&here[1]).cloned().collect();
        prop_assert_eq!(&shown[0], &everybody);
        prop_assert_eq!(&shown[1], &everybody);
    }
}
