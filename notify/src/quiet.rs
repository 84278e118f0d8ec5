//! Do-not-disturb hours: every day from one time to another on the clocks of a zone, as its daylight saving has it.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// Hours as people set them: `HH:MM`, over midnight if `from` is later than `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoNotDisturb {
    /// When silence begins.
    pub from: String,
    /// When it ends.
    pub to: String,
    /// A name of the tz database, such as `Europe/Berlin`.
    pub time_zone: String,
}

/// Why hours can't be followed.
#[derive(Debug, thiserror::Error)]
pub enum QuietError {
    /// Not `HH:MM`.
    #[error("{0:?} is no time such as 22:00")]
    Time(String),
    /// Both times are the same.
    #[error("silence begins and ends at the same time")]
    Empty,
    /// The zone isn't in the tz database.
    #[error("{0:?} is no zone of the tz database")]
    Zone(String),
}

/// Hours ready to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "DoNotDisturb", into = "DoNotDisturb")]
pub struct QuietHours {
    from: Time,
    to: Time,
    zone: TimeZone,
    zone_name: String,
}

impl TryFrom<DoNotDisturb> for QuietHours {
    type Error = QuietError;

    fn try_from(hours: DoNotDisturb) -> Result<Self, QuietError> {
        let (from, to) = (time_of(&hours.from)?, time_of(&hours.to)?);
        if from == to {
            return Err(QuietError::Empty);
        }
        let zone = zone_of(&hours.time_zone).ok_or_else(|| QuietError::Zone(hours.time_zone.clone()))?;
        Ok(Self { from, to, zone, zone_name: hours.time_zone })
    }
}

impl From<QuietHours> for DoNotDisturb {
    fn from(hours: QuietHours) -> Self {
        let text = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        Self { from: text(hours.from), to: text(hours.to), time_zone: hours.zone_name }
    }
}

/// Whether hours can be kept in a zone: whether its name is in the table that is used here.
pub fn is_zone(name: &str) -> bool {
    name.len() <= 64 && zone_of(name).is_some()
}

fn zone_of(name: &str) -> Option<TimeZone> {
    // PostgreSQL's spelling, too.
    TimeZone::get(name.strip_prefix("posix/").unwrap_or(name)).ok()
}

fn time_of(text: &str) -> Result<Time, QuietError> {
    let wrong = || QuietError::Time(text.to_owned());
    let two = |part: &str| {
        part.parse::<i8>().ok().filter(|_| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let (hour, minute) = two(hour).zip(two(minute)).ok_or_else(wrong)?;
    Time::new(hour, minute, 0, 0).map_err(|_| wrong())
}

impl QuietHours {
    /// If `now_ms` (since 1970, UTC) falls into the hours: when they end, in milliseconds too, later than `now_ms`.
    ///
    /// Where clocks are put back or forward over one of the two times, people are left alone for the longer of the two
    /// readings.
    pub fn end_of(&self, now_ms: i64) -> Option<i64> {
        let mut end_ms = self.end_of_one(now_ms)?;
        // On the day clocks go back, hours that leave little of a day can reach into those of the next.
        for _ in 0..3 {
            let Some(later_ms) = self.end_of_one(end_ms) else { break };
            end_ms = later_ms;
        }
        Some(end_ms)
    }

    fn end_of_one(&self, now_ms: i64) -> Option<i64> {
        let now = Timestamp::from_millisecond(now_ms).ok()?;
        let today = self.zone.to_datetime(now).date();
        // The night that began two days ago still counts where a zone has left a day out.
        let days = [-2, -1, 0, 1].into_iter().filter_map(|days| today.checked_add(days.days()).ok());
        days.filter_map(|day| self.night(day))
            .filter(|(start_ms, end_ms)| (*start_ms..*end_ms).contains(&now_ms))
            .map(|(_, end_ms)| end_ms)
            .max()
    }

    fn night(&self, day: Date) -> Option<(i64, i64)> {
        let last = if self.from < self.to { day } else { day.tomorrow().ok()? };
        let start = self.zone.to_ambiguous_timestamp(day.to_datetime(self.from)).earlier().ok()?;
        let end = self.zone.to_ambiguous_timestamp(last.to_datetime(self.to)).later().ok()?;
        Some((start.as_millisecond(), end.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(from: &str, to: &str, zone: &str) -> QuietHours {
        DoNotDisturb { from: from.into(), to: to.into(), time_zone: zone.into() }.try_into().unwrap()
    }

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_night_follows_the_clocks_of_its_zone() {
        let berlin = hours("22:00", "07:00", "Europe/Berlin");
        for (now, end) in [
            // Winter: UTC+1.
            ("2026-01-15T20:59:59Z", None),
            ("2026-01-15T21:00:00Z", Some("2026-01-16T06:00:00Z")),
            ("2026-01-16T05:59:59Z", Some("2026-01-16T06:00:00Z")),
            ("2026-01-16T06:00:00Z", None),
            // Summer: UTC+2.
            ("2026-07-15T20:00:00Z", Some("2026-07-16T05:00:00Z")),
            ("2026-07-16T05:00:00Z", None),
            // Clocks go forward on the 29th of March at 02:00, back on the 25th of October at 03:00.
            ("2026-03-28T21:00:00Z", Some("2026-03-29T05:00:00Z")),
            ("2026-10-24T20:00:00Z", Some("2026-10-25T06:00:00Z")),
        ] {
            assert_eq!(berlin.end_of(ms(now)), end.map(ms), "{now}");
        }
    }

    #[test]
    fn a_time_that_comes_twice_or_never_leaves_people_alone_for_longer() {
        // 02:30 comes twice on the 25th of October, at 00:30 and 01:30 UTC.
        let until = hours("22:00", "02:30", "Europe/Berlin");
        assert_eq!(until.end_of(ms("2026-10-24T23:00:00Z")), Some(ms("2026-10-25T01:30:00Z")));
        let since = hours("02:30", "08:00", "Europe/Berlin");
        assert_eq!(since.end_of(ms("2026-10-25T00:29:59Z")), None);
        assert_eq!(since.end_of(ms("2026-10-25T00:30:00Z")), Some(ms("2026-10-25T07:00:00Z")));
        // 02:30 never comes on the 29th of March; 01:30 and 03:30 are both 00:30 and 01:30 UTC.
        assert_eq!(until.end_of(ms("2026-03-29T01:29:59Z")), Some(ms("2026-03-29T01:30:00Z")));
        assert_eq!(since.end_of(ms("2026-03-29T00:30:00Z")), Some(ms("2026-03-29T06:00:00Z")));
        // Samoa had no 30th of December 2011.
        let samoa = hours("22:00", "07:00", "Pacific/Apia");
        assert_eq!(samoa.end_of(ms("2011-12-30T09:00:00Z")), Some(ms("2011-12-30T17:00:00Z")));
    }

    #[test]
    fn nearly_whole_days_run_into_each_other_when_clocks_go_back() {
        let all_but_a_quarter = hours("02:15", "02:00", "Europe/Berlin");
        // 02:00 of the 25th is read as the later one, 01:00 UTC; 02:15 as the earlier one, 00:15 UTC.
        assert_eq!(all_but_a_quarter.end_of(ms("2026-10-24T12:00:00Z")), Some(ms("2026-10-26T01:00:00Z")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let parse = |from: &str, to: &str, zone: &str| {
            QuietHours::try_from(DoNotDisturb { from: from.into(), to: to.into(), time_zone: zone.into() })
        };
        assert!(matches!(parse("24:00", "07:00", "UTC"), Err(QuietError::Time(_))));
        assert!(matches!(parse("22:00", "7:00", "UTC"), Err(QuietError::Time(_))));
        assert!(matches!(parse("+1:00", "07:00", "UTC"), Err(QuietError::Time(_))));
        assert!(matches!(parse("07:00", "07:00", "UTC"), Err(QuietError::Empty)));
        assert!(matches!(parse("22:00", "07:00", "Middle/Earth"), Err(QuietError::Zone(_))));
        assert!(parse("22:00", "07:00", "posix/Asia/Kolkata").is_ok());
        assert!(is_zone("Europe/Berlin") && !is_zone("Middle/Earth") && !is_zone("") && !is_zone(&"a".repeat(65)));
    }

    proptest! {
        #[test]
        fn an_end_is_later_and_outside_and_everything_before_it_is_inside(
            from in 0..1440_i64, to in 0..1440_i64, now_s in 0..4_000_000_000_i64,
            zone in prop::sample::select(vec![
                "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia",
                "Africa/Casablanca", "America/St_Johns",
            ]),
        ) {
            prop_assume!(from != to);
            let text = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            let hours = hours(&text(from), &text(to), zone);
            if let Some(end_ms) = hours.end_of(now_s * 1000) {
                prop_assert!(end_ms > now_s * 1000);
                prop_assert_eq!(hours.end_of(end_ms), None);
                prop_assert_eq!(hours.end_of(end_ms - 1), Some(end_ms));
                // Three days at most: never silent for ever.
                prop_assert!(end_ms - now_s * 1000 <= 3 * 86_400_000);
            }
        }
    }
}
