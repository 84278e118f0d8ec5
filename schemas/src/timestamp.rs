//! Times: milliseconds since 1970 UTC inside, RFC 3339 with milliseconds towards people.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

const RFC3339_MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// `2026-01-31T12:00:00.000Z` for milliseconds since 1970; times that no calendar holds are clamped to its ends.
pub fn rfc3339(epoch_ms: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_ms) * 1_000_000)
        .unwrap_or(if epoch_ms < 0 { OffsetDateTime::UNIX_EPOCH } else { time::Date::MAX.midnight().assume_utc() });
    moment.format(RFC3339_MILLIS).unwrap_or_default()
}

/// Milliseconds since 1970 of a time in RFC 3339, whatever its offset.
pub fn parse(text: &str) -> Result<i64, time::error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339).map(from_offset)
}

/// For `#[serde(serialize_with)]` on a field in milliseconds.
pub fn serialize<S: Serializer>(epoch_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    rfc3339(*epoch_ms).serialize(serializer)
}

/// For `#[serde(serialize_with)]` on an optional field in milliseconds.
pub fn serialize_option<S: Serializer>(epoch_ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    epoch_ms.map(rfc3339).serialize(serializer)
}

/// Milliseconds since 1970 of a database's timestamp.
pub fn from_offset(moment: OffsetDateTime) -> i64 {
    (moment.unix_timestamp_nanos() / 1_000_000) as i64
}

/// The database's timestamp for milliseconds since 1970; clamped like [`rfc3339`].
pub fn to_offset(epoch_ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(epoch_ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_with_three_digits() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(1_700_000_000_007), "2023-11-14T22:13:20.007Z");
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for epoch_ms in [0, -1, 1_700_000_000_007] {
            assert_eq!(parse(&rfc3339(epoch_ms)), Ok(epoch_ms));
        }
        assert_eq!(parse("2023-11-15T00:13:20.007+02:00"), Ok(1_700_000_000_007));
        assert!(parse("yesterday").is_err());
    }
}
