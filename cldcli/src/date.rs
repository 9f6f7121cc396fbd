//! Dates as they are shown: RFC 3339, UTC.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

const SECONDS_PER_DAY: u64 = 86_400;
/// Days in 400 years, after which the calendar repeats.
const DAYS_PER_ERA: u64 = 146_097;
/// Days from the first of March of the year 0 to the first of January 1970.
const DAYS_TO_1970: u64 = 719_468;

/// A moment, to the second or to the millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    secs: u64,
    millis: Option<u32>,
}

impl Date {
    /// Seconds since 1970.
    pub(crate) fn from_secs(secs: u64) -> Self {
        Self { secs, millis: None }
    }

    /// By the system's wall clock.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { secs: since.as_secs(), millis: Some(since.subsec_millis()) }
    }
}

/// Year, month and day. Years begin in March here, so that the leap day comes last.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970.saturating_add(DAYS_TO_1970);
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    // Without the leap days before it, every year has 365 days.
    let year = (day - day / 1_460 + day / 36_524 - day / (DAYS_PER_ERA - 1)) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 31, 30, 31, 30, 31 days, over and over.
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + carry, month, day_of_month)
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.secs / SECONDS_PER_DAY);
        let (hour, minute, second) = (self.secs / 3_600 % 24, self.secs / 60 % 60, self.secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if let Some(millis) = self.millis {
            write!(f, ".{millis:03}")?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (secs, date) in cases {
            assert_eq!(Date::from_secs(secs).to_string(), date);
        }
        assert!(!Date::from_secs(u64::MAX).to_string().is_empty());
    }

    #[test]
    fn days_follow_each_other_for_a_thousand_years() {
        let mut last = (1970, 1, 1);
        for day in 1..365_250 {
            let (year, month, date) = civil(day);
            let next = match last {
                (y, m, d) if (year, month, date) == (y, m, d + 1) => d < 31,
                (y, m, d) if (year, month, date) == (y, m + 1, 1) => d >= 28,
                (y, 12, 31) => (year, month, date) == (y + 1, 1, 1),
                _ => false,
            };
            assert!(next, "{last:?} then {:?}", (year, month, date));
            last = (year, month, date);
        }
    }

    #[test]
    fn the_wall_clock_is_shown_to_the_millisecond() {
        let date = Date { secs: 61, millis: Some(7) };
        assert_eq!(date.to_string(), "1970-01-01T00:01:01.007Z");
        assert_eq!(Date::now().to_string().len(), date.to_string().len());
    }
}
