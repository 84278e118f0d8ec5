//! Timeline history: where each earlier timeline ended for a server.
//!
//! A promotion starts a new timeline at the end of what the standby had. What the old primary wrote past that point isn't
//! in the new one's history, and the new one writes other things at the same LSNs.

use crate::lsn::Lsn;

/// The end of an earlier timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that was left.
    pub timeline: i32,
    /// The first byte that belongs to the next one.
    pub at: Lsn,
}

/// The lines of a history file, oldest first: timeline, LSN of the switch, reason. An error is the line that isn't one.
pub(super) fn switches(content: &str) -> Result<Vec<Switch>, String> {
    let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|field| field.parse().ok());
            let at = fields.next().and_then(|field| field.parse().ok());
            timeline.zip(at).map(|(timeline, at)| Switch { timeline, at }).ok_or_else(|| line.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_postgres_writes_them() {
        let content =
            "1\t0/3000148\tno recovery target specified\n\n# a comment\n2\t1/A0\tbefore 2000-01-01 00:00:00\n";
        let expected = [Switch { timeline: 1, at: Lsn(0x300_0148) }, Switch { timeline: 2, at: Lsn(0x1_0000_00A0) }];
        assert_eq!(switches(content), Ok(expected.to_vec()));
        assert_eq!(switches(""), Ok(Vec::new()));
        assert_eq!(switches("1\t0/3\n2 here\n"), Err("2 here".to_owned()));
    }
}
