//! Every version that a record's schema has had, kept for ever in `golden/`, with records that were written by it.
//!
//! A version is a change of what is in the bytes or of what readers make of them; words of documentation alone make none.
//! The numbers are ours: a registry counts its own. `golden/README.md` says how a version is added.

/// The schemas of one record, oldest first.
macro_rules! versions {
    ($record:literal, $($version:literal),+) => {
        ($record, &[$(include_str!(concat!("../golden/", $record, "/", $version, ".avsc"))),+])
    };
}

/// Every record and its versions.
const ALL: [(&str, &[&str]); 10] = [
    versions!("ChatCommand", 1),
    versions!("ChatEvent", 1),
    versions!("User", 1),
    versions!("Mark", 1),
    versions!("Cursor", 1),
    versions!("Notification", 1),
    versions!("Position", 1),
    versions!("ChatActivity", 1),
    versions!("ChatAbuse", 1),
    versions!("OperatorState", 1),
];

/// The schemas that a record has had, oldest first; version 1 is the first. Empty for a record that there isn't.
pub fn versions(record: &str) -> &'static [&'static str] {
    ALL.iter().find(|(name, _)| *name == record).map_or(&[], |(_, versions)| versions)
}

#[cfg(test)]
mod ahead_tests;
#[cfg(test)]
mod files;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
