//! What the tests start: the child half alone, children that misbehave, and a parent that is killed.

use std::io::{Write, stderr, stdout};
use std::path::Path;
use std::process::{Command, ExitCode};

use previews::{ChildProgram, Declared, Previewer, Settings, Upload};

fn main() -> ExitCode {
    if let Some(code) = previews::child_main() {
        return code;
    }
    let mut arguments = std::env::args().skip(1);
    let how = arguments.next().unwrap_or_default();
    match how.as_str() {
        "hang" => hang(),
        "hang-unheard" => {
            // Nobody can tell by its pipes that it is still there.
            let _ = (nix::unistd::close(1), nix::unistd::close(2));
            hang()
        }
        "abort" => std::process::abort(),
        "kill-itself" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            hang()
        }
        "flood" => flood(stdout()),
        "complain" => flood(stderr()),
        "garbage" => say(&[0x5a; 10_000]),
        "lie" => say(&u32::MAX.to_le_bytes()),
        "half" => {
            say(b"\x10\0\0\0{\"sandbox\"");
            hang()
        }
        "say-nothing" => ExitCode::SUCCESS,
        "give-up" => {
            eprintln!("first line\nI give up \u{1b}[31m\n\n");
            ExitCode::from(3)
        }
        "leave-somebody" => {
            // It holds the pipes, and would for a day.
            let _ = Command::new("sleep").arg("86399").spawn();
            ExitCode::SUCCESS
        }
        "show-environment" => {
            eprintln!("{} variables", std::env::vars_os().count());
            ExitCode::FAILURE
        }
        "examine" => examine(Path::new(&arguments.next().unwrap_or_default())),
        _ => ExitCode::from(2),
    }
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn flood(mut to: impl Write) -> ExitCode {
    while to.write_all(&[b'x'; 4096]).is_ok() {}
    ExitCode::FAILURE
}

fn say(what: &[u8]) -> ExitCode {
    let _ = stdout().write_all(what);
    ExitCode::SUCCESS
}

/// A parent with a child that has much to do.
fn examine(file: &Path) -> ExitCode {
    let examined = || -> Result<(), Box<dyn std::error::Error>> {
        let previewer = Previewer::with_program(ChildProgram::current()?, Settings::default());
        let file = Upload::read_from(std::fs::File::open(file)?, None, u64::MAX)?;
        previewer.examine(&file, &Declared::default())?;
        Ok(())
    };
    if examined().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
