//! `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.

use std::time::{Duration, UNIX_EPOCH};

/// How long to wait, if the header says so. A date that has passed is no wait.
pub fn parse(value: &str, now_ms: i64) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than there are numbers is still a wait.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    let at_ms = at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    Some(Duration::from_millis(u64::try_from(at_ms.saturating_sub(now_ms)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_the_three_forms_of_dates() {
        // 1994-11-06T08:49:37Z, the example of RFC 9110, section 5.6.7.
        let at_ms = 784_111_777_000;
        for (value, expected) in [
            ("120", Some(Duration::from_secs(120))),
            (" 0 ", Some(Duration::ZERO)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Duration::from_secs(60))),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(Duration::from_secs(60))),
            ("Sun Nov  6 08:49:37 1994", Some(Duration::from_secs(60))),
            ("99999999999999999999999", Some(Duration::from_secs(u64::from(u32::MAX)))),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(parse(value, at_ms - 60_000), expected, "{value:?}");
        }
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT", at_ms + 1), Some(Duration::ZERO));
    }
}
