//! Any bytes as a message of the plugin: decoded, read, mapped and written, or refused. `CONTRIBUTING.md` says how to run
//! it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../src/reading.rs"]
mod reading;

static READING: LazyLock<reading::Reading> = LazyLock::new(|| reading::Reading::new().expect("the seeds"));

fuzz_target!(|bytes: &[u8]| {
    let _ = READING.read(bytes);
});
