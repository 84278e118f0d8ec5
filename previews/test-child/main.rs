//! What the tests start: the child half alone, and children that misbehave.

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = previews::child_main() {
        return code;
    }
    ExitCode::from(2)
}
