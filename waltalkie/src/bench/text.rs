//! Bodies of messages that look like text.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What bodies are made of: with its spaces, text that compresses about as people's does.
const SYLLABLES: [&str; 24] = [
    "ka", "lo", "mi", "ren", "sto", "u", "ve", "pra", "ne", "di", "on", "ter", "al", "ic", "es", "for", "ing", "ou",
    "th", "er", "wa", "ly", "com", "ag",
];

/// A text of exactly so many bytes.
pub(crate) fn body(random: &mut StdRng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 8);
    while text.len() < bytes {
        for _ in 0..random.random_range(1..4) {
            text.push_str(SYLLABLES.choose(random).unwrap_or(&"a"));
        }
        text.push(' ');
    }
    text.truncate(bytes);
    text
}
