//! Messages that a server sent, and what is made of them when bytes of them are wrong. The same reading is fuzzed: `fuzz/`.

use std::time::{Duration, Instant};

#[path = "../../../fuzz/src/reading.rs"]
#[allow(dead_code, reason = "the fuzz target has no use for all of it")]
mod reading;

use reading::{Read, Reading};

/// Wrong messages made of the seeds.
const MUTATIONS: u64 = 40_000;
/// Time for them, many times what they need.
const TIME: Duration = Duration::from_secs(60);
/// Longest time for one.
const TIME_OF_ONE: Duration = Duration::from_secs(2);
/// Address space for them. A length field can ask for 4 GiB.
const BYTES: u64 = 1 << 30;

/// xorshift64*: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[test]
fn what_a_server_sent_is_read_as_what_it_is() {
    let reading = Reading::new().expect("the seeds");
    let mut kinds = std::collections::BTreeSet::new();
    for seed in reading.seeds() {
        let read = reading.read(&seed.bytes);
        let expected = match seed.name.as_str() {
            name if name.starts_with("insert-infinite") => {
                let error = read.expect_err("infinity is no time");
                assert!(error.contains("infinity where a time is needed"), "{name}: {error}");
                kinds.insert("insert");
                continue;
            }
            name if ["insert-message", "insert-change", "insert-user"].iter().any(|ours| name.starts_with(ours)) => {
                Read::Written(1)
            }
            name if name.starts_with("insert-") => Read::Foreign,
            _ => Read::Passed(match seed.kind() {
                "begin" => "begin",
                "commit" => "commit",
                "origin" => "origin",
                "relation" => "relation",
                "type" => "type",
                "update" => "update",
                "delete" => "delete",
                "truncate" => "truncate",
                "logical" => "logical",
                other => panic!("a seed of kind {other}"),
            }),
        };
        assert_eq!(read, Ok(expected), "{}", seed.name);
        kinds.insert(seed.kind());
    }
    let all = ["begin", "commit", "delete", "insert", "logical", "origin", "relation", "truncate", "type", "update"];
    assert!(kinds.iter().eq(&all), "kinds of messages: {kinds:?}");
}

#[test]
fn wrong_bytes_are_refused_in_bounded_time_and_memory() {
    let reading = Reading::new().expect("the seeds");
    let (mut random, began, before) = (Random(0x5EED), Instant::now(), peak_bytes());
    let (mut read, mut refused) = (0_u32, 0_u32);
    for number in 0..MUTATIONS {
        let bytes = mutated(&reading, &mut random);
        let one = Instant::now();
        match reading.read(&bytes) {
            Ok(_) => read += 1,
            Err(error) => {
                assert!(error.len() < 1_000, "mutation {number}: an error of {} bytes", error.len());
                refused += 1;
            }
        }
        assert!(one.elapsed() < TIME_OF_ONE, "mutation {number} took {:?}: {bytes:02x?}", one.elapsed());
    }
    assert!(began.elapsed() < TIME, "{:?}", began.elapsed());
    let grown = peak_bytes().saturating_sub(before);
    assert!(grown < BYTES, "{grown} bytes of address space");
    // Else the mutations are too tame or too wild to try anything.
    assert!(read > 1_000 && refused > 1_000, "{read} read, {refused} refused");
}

/// A seed with one to four things wrong.
fn mutated(reading: &Reading, random: &mut Random) -> Vec<u8> {
    let seeds = reading.seeds();
    let mut bytes = seeds[random.below(seeds.len())].bytes.clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            2 => {
                let other = &seeds[random.below(seeds.len())].bytes;
                let from = random.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            // Where lengths and counts may stand: at any place.
            3 => overwrite(
                &mut bytes,
                at,
                &[0_u32, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX][random.below(5)].to_be_bytes(),
            ),
            4 => overwrite(&mut bytes, at, &[0_u16, 1, 0x7FFF, 0x8000, u16::MAX][random.below(5)].to_be_bytes()),
            _ => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes.iter_mut().skip(at).zip(with) {
        *byte = *new;
    }
}

/// Most address space that this process had: what is asked for counts, also where it is never touched.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1_024
}
