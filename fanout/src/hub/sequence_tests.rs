use super::*;
use proptest::prelude::*;

/// What can happen to a chat whose history grows to `LENGTH`.
#[derive(Debug, Clone)]
enum Step {
    /// The next event is committed and published; the flag says whether Pub/Sub brings it.
    Publish(bool),
    /// An event comes again, or late.
    Again(i64),
    /// The head is read.
    Head(bool),
    /// The read under way ends: with a page of at most so many, or in failure.
    ReadEnds(Option<usize>),
    /// Time goes by.
    Wait(u64),
}

const START: i64 = 5;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Publish),
        2 => Just(Step::Publish(true)),
        2 => (0i64..60).prop_map(Step::Again),
        2 => any::<bool>().prop_map(Step::Head),
        3 => proptest::option::weighted(0.8, 0usize..20).prop_map(Step::ReadEnds),
        2 => (0u64..1_500).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..200)
}

struct World {
    sequence: Sequence<i64>,
    committed: i64,
    reading: Option<(i64, i64)>,
    seen: Vec<i64>,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        Self { sequence: Sequence::new(START), committed: START, reading: None, seen: Vec::new(), now_ms: 0 }
    }

    fn settle(&mut self) {
        while let Some(event) = self.sequence.pop() {
            self.seen.push(event);
        }
        if let Some(range) = self.sequence.read(self.now_ms) {
            assert!(self.reading.is_none(), "one read at a time");
            assert!(range.0 == self.sequence.last() + 1 && range.0 <= range.1 && range.1 < range.0 + PAGE);
            self.reading = Some(range);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish(arrives) => {
                self.committed += 1;
                if *arrives {
                    self.sequence.live(self.committed, self.committed);
                }
            }
            Step::Again(seq) => {
                if *seq <= self.committed {
                    self.sequence.live(*seq, *seq);
                }
            }
            Step::Head(is_late) => self.sequence.head(self.committed, *is_late, self.now_ms),
            Step::ReadEnds(outcome) => {
                if let Some((from, to)) = self.reading.take() {
                    match outcome {
                        None => self.sequence.failed(self.now_ms),
                        Some(most) => {
                            let page = (from..=to.min(self.committed)).take(*most).map(|seq| (seq, seq)).collect();
                            self.sequence.healed(page, self.now_ms);
                        }
                    }
                }
            }
            Step::Wait(ms) => self.now_ms += ms,
        }
        self.settle();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_interleaving_ends_in_the_whole_history_in_order(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            let expected: Vec<i64> = (START + 1..=world.sequence.last()).collect();
            prop_assert_eq!(&world.seen, &expected, "without hole or repeat at every moment");
        }
        // The faults end: one head, reads that work, and time.
        world.step(&Step::Head(false));
        let mut turns = 0;
        while world.sequence.last() < world.committed {
            world.step(&Step::Wait(500));
            world.step(&Step::ReadEnds(Some(1_000)));
            turns += 1;
            prop_assert!(turns < 100, "never came to the head {}, stands at {}", world.committed, world.sequence.last());
        }
        let expected: Vec<i64> = (START + 1..=world.committed).collect();
        prop_assert_eq!(world.seen, expected);
        prop_assert!(world.sequence.is_settled());
    }
}

#[test]
fn a_head_is_a_gap_only_after_a_second() {
    let mut sequence = Sequence::new(0);
    sequence.head(2, false, 100);
    assert_eq!(sequence.read(1_099), None);
    sequence.live(1, 1);
    assert_eq!(sequence.pop(), Some(1));
    assert_eq!(sequence.read(1_100), Some((2, 2)));
}

#[test]
fn a_head_that_the_stream_reaches_costs_no_read() {
    let mut sequence = Sequence::new(0);
    sequence.head(1, false, 0);
    sequence.live(1, 1);
    assert_eq!(sequence.pop(), Some(1));
    assert_eq!(sequence.read(5_000), None);
    assert!(sequence.is_settled());
}

#[test]
fn a_flood_behind_a_gap_keeps_the_nearest_and_reads_the_rest() {
    let mut sequence = Sequence::new(0);
    for seq in (2..2_000).rev() {
        sequence.live(seq, seq);
    }
    assert_eq!(sequence.waiting.len(), WAITING);
    assert_eq!(sequence.read(0), Some((1, 1)));
    sequence.healed(vec![(1, 1)], 0);
    while sequence.pop().is_some() {}
    assert_eq!(sequence.last(), 1 + WAITING as i64);
    assert_eq!(sequence.read(0), Some((258, 357)));
}

#[test]
fn a_read_that_brings_nothing_is_tried_again_later() {
    let mut sequence = Sequence::<i64>::new(0);
    sequence.head(1, true, 0);
    assert_eq!(sequence.read(0), Some((1, 1)));
    sequence.healed(Vec::new(), 0);
    assert_eq!(sequence.read(RETRY_FIRST_MS - 1), None);
    assert_eq!(sequence.read(RETRY_FIRST_MS), Some((1, 1)));
}
