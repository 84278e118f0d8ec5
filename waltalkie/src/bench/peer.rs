//! `--peer`: other programs that do the same, measured beside ours.

use anyhow::Result;
use tokio::process::Command;

use super::program::Program;

/// A program to measure: `<name>=<command>`.
#[derive(Debug, Clone)]
pub struct Peer {
    /// What the report calls it.
    pub name: String,
    command: String,
}

impl Peer {
    /// Starts it with its orders in the environment, of which `orders` makes those that are of its folder.
    pub(crate) fn start(&self, orders: impl FnOnce(&str) -> Vec<(&'static str, String)>) -> Result<Program> {
        Program::start(|folder| {
            let mut command = Command::new("sh");
            // exec, so that it is this child that is measured and ended.
            command.arg("-c").arg(format!("exec {}", self.command)).envs(orders(&folder.to_string_lossy()));
            command
        })
    }
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, command)) if !name.is_empty() && !command.is_empty() => {
                Ok(Self { name: name.to_owned(), command: command.to_owned() })
            }
            _ => Err("must be <name>=<command>".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_name_and_command() {
        let peer: Peer = "Debezium, tuned=./connect --x=1".parse().unwrap();
        assert_eq!((peer.name.as_str(), peer.command.as_str()), ("Debezium, tuned", "./connect --x=1"));
        assert!("./connect".parse::<Peer>().is_err() && "=x".parse::<Peer>().is_err());
    }
}
