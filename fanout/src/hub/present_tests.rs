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
        online: online.iter().map(ToString::to_string).collect(),
        offline: offline.iter().map(|(id, at)| ((*id).to_owned(), Some(*at))).collect(),
        ..Announcement::default()
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
fn changes_are_told_once_it_is_quiet_or_the_first_has_waited_long() {
    let mut present = Present::default();
    assert_eq!(present.gathers_until(0), None, "nothing has changed");
    for now_ms in (0..=1_600).step_by(400) {
        present.changed(now_ms);
        assert_eq!(present.gathers_until(now_ms + 399), Some((now_ms + 500).min(2_000)));
    }
    assert_eq!(present.gathers_until(2_000), None, "the first of them waits no longer");
    turn(&mut present, &["ana"], 2_000);
    present.changed(2_100);
    assert_eq!((present.gathers_until(2_599), present.gathers_until(2_600)), (Some(2_600), None));
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
    assert!(!present.node_gone("n2", Some(8)), "nobody of the chat is there any more");
    assert!(present.node_gone("n3", Some(9)));
    assert_eq!(named(&turn(&mut present, &[], 2)), [("bob".into(), State::Offline(Some(9)))]);
}

#[test]
fn who_asks_learns_of_everybody_who_is_gone() {
    let mut present = Present::default();
    turn(&mut present, &["ana"], 0);
    present.hear(of_node("n2", &["bob", "cem"], &[]));
    turn(&mut present, &["ana"], 1);
    present.ask();
    let asking = turn(&mut present, &["ana"], 2);
    let asks = Announcement { ask: true, is_whole: true, ..of_node("n1", &["ana"], &[]) };
    assert_eq!(asking.announcement, Some(asks), "who asks may have been missed too");
    present.hear(Announcement { is_whole: true, ..of_node("n2", &["cem"], &[]) });
    assert_eq!(named(&turn(&mut present, &["ana"], 3)), [("bob".into(), State::Offline(None))]);
    let later = turn(&mut present, &["ana"], 2 + ANSWER_MS);
    assert!(later.changes.is_empty(), "n2 has answered");
}

#[test]
fn a_node_that_does_not_answer_has_nobody() {
    let mut present = Present::default();
    present.hear(of_node("n2", &["bob"], &[]));
    turn(&mut present, &["ana"], 0);
    present.ask();
    assert_eq!(turn(&mut present, &["ana"], 1).next_ms, Some(1 + ANSWER_MS));
    let silent = turn(&mut present, &["ana"], 1 + ANSWER_MS);
    assert_eq!(named(&silent), [("bob".into(), State::Offline(None))]);
}

#[test]
fn who_is_asked_answers_also_with_nobody() {
    let mut present = Present::default();
    present.hear(Announcement { ask: true, ..of_node("n2", &[], &[]) });
    assert_eq!(
        turn(&mut present, &[], 0).announcement,
        Some(Announcement { is_whole: true, ..of_node("n1", &[], &[]) })
    );
}

#[test]
fn in_a_large_chat_nobody_is_told_of_anybody() {
    let mut present = Present::default();
    turn(&mut present, &["a", "b"], 0);
    present.hear(of_node("n2", &["c", "d"], &[]));
    let large = turn(&mut present, &["a", "b"], 1);
    assert_eq!(named(&large), [("a".into(), State::Offline(None)), ("b".into(), State::Offline(None))]);
    assert!(present.is_large() && large.announcement.is_none(), "what was announced stays so");
    present.hear(of_node("n2", &[], &[("c", 1)]));
    assert_eq!(turn(&mut present, &["a", "b"], 2).changes.len(), 3);
}

#[test]
fn many_at_once_are_known_elsewhere_to_be_too_many() {
    let (mut first, mut second) = (Present::default(), Present::default());
    let many = turn(&mut first, &["a", "b", "c", "d", "e", "f"], 0);
    assert!(many.changes.is_empty());
    second.hear(many.announcement.expect("as many as it takes"));
    assert!(second.turn("n2", ids(&["g"]).iter(), 0, MOST).changes.is_empty());
    assert!(second.is_large());
}

#[derive(Debug, Clone)]
enum Step {
    Come(usize, u8),
    Go(usize, u8),
    /// A turn, and whether the other node hears what it says.
    Turn(usize, bool),
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..2usize, 0..5u8).prop_map(|(node, user)| Step::Come(node, user)),
        (0..2usize, 0..5u8).prop_map(|(node, user)| Step::Go(node, user)),
        (0..2usize, proptest::bool::weighted(0.8)).prop_map(|(node, is_heard)| Step::Turn(node, is_heard)),
        Just(Step::Wait),
    ]
}

proptest! {
    /// Whatever is lost in between: once nodes that may have missed something have asked, both have told exactly who is
    /// connected anywhere, or nobody if those are too many.
    #[test]
    fn two_nodes_agree_at_rest(steps in proptest::collection::vec(step(), 0..80)) {
        let names = ids(&["ana", "bob", "cem", "dee", "eve"]);
        let nodes = ["n0", "n1"];
        let mut presents = [Present::default(), Present::default()];
        let mut here: [HashSet<Arc<str>>; 2] = Default::default();
        let mut shown: [HashSet<Arc<str>>; 2] = Default::default();
        let mut now_ms = 0;
        let turns = [Step::Turn(0, true), Step::Turn(1, true), Step::Turn(0, true), Step::Turn(1, true)];
        let rest = [Step::Wait].into_iter().chain(turns.clone()).chain([Step::Wait, Step::Wait]).chain(turns);
        let end = steps.len();
        for (number, step) in steps.into_iter().chain(rest).enumerate() {
            if number == end {
                presents.iter_mut().for_each(Present::ask);
            }
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
                Step::Turn(node, is_heard) => {
                    let turn = presents[node].turn(nodes[node], here[node].iter(), now_ms, MOST);
                    for (user, state) in turn.changes {
                        let is_new = match state {
                            State::Online => shown[node].insert(user),
                            State::Offline(_) => shown[node].remove(&user),
                        };
                        prop_assert!(is_new, "told twice");
                    }
                    if let Some(announcement) = turn.announcement.filter(|_| is_heard) {
                        presents[1 - node].hear(announcement);
                    }
                }
            }
        }
        let mut everybody: HashSet<Arc<str>> = here[0].union(&here[1]).cloned().collect();
        if everybody.len() > MOST {
            everybody.clear();
        }
        prop_assert_eq!(&shown[0], &everybody);
        prop_assert_eq!(&shown[1], &everybody);
    }
}
