//! Do-not-disturb hours as clients set them.

use schemas::wire::{Code, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Hours of every day, in a zone; over midnight if `from` is later than `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct DoNotDisturb {
    /// `HH:MM`
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub(super) from: String,
    /// `HH:MM`
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$")]
    pub(super) to: String,
    /// A name of the tz database, such as `Europe/Berlin`.
    pub(super) time_zone: String,
}

/// `None` for null, which takes the hours away.
pub(super) fn hours_of(value: Value) -> Result<Option<DoNotDisturb>, Rejection> {
    let wrong = |field: &str, rule: &str| Rejection::new(Code::BadField, rule).at(format!("do_not_disturb{field}"));
    if value.is_null() {
        return Ok(None);
    }
    let hours: DoNotDisturb =
        serde_json::from_value(value).map_err(|_| wrong("", "do_not_disturb is {from, to, time_zone}, or null."))?;
    for (field, time) in [(".from", &hours.from), (".to", &hours.to)] {
        if !is_time(time) {
            return Err(wrong(field, "from and to are times such as 22:00."));
        }
    }
    if hours.from == hours.to {
        return Err(wrong(".to", "from and to are two different times."));
    }
    Ok(Some(hours))
}

fn is_time(text: &str) -> bool {
    let two = |part: &str, most: u8| {
        part.len() == 2
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && part.parse().is_ok_and(|number: u8| number < most)
    };
    text.split_once(':').is_some_and(|(hour, minute)| two(hour, 24) && two(minute, 60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn wrong_hours_are_refused_with_their_place() {
        for (hours, field) in [
            (json!("night"), "do_not_disturb"),
            (json!({ "from": "24:00", "to": "07:00", "time_zone": "UTC" }), "do_not_disturb.from"),
            (json!({ "from": "22:00", "to": "7:00", "time_zone": "UTC" }), "do_not_disturb.to"),
            (json!({ "from": "07:00", "to": "07:00", "time_zone": "UTC" }), "do_not_disturb.to"),
        ] {
            let refused = hours_of(hours.clone()).unwrap_err();
            assert_eq!(refused.field.as_deref(), Some(field), "{hours}");
        }
    }
}
