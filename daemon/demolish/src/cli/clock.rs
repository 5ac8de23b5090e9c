//! Times as people read them, in UTC: no verb needs more of a calendar than this.

/// A time of day and its date: `2026-11-22 14:03:12`.
pub(super) fn date_time(ms: u64) -> String {
    let (year, month, day) = date(ms / 86_400_000);
    format!("{year:04}-{month:02}-{day:02} {}", &time(ms)[..8])
}

/// A time of day with its milliseconds: `14:03:12.345`.
pub(super) fn time(ms: u64) -> String {
    let of_day = ms % 86_400_000;
    let (seconds, ms) = (of_day / 1000, of_day % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A stretch of time in its largest unit, or two: `3 s`, `12 min`, `2 h 5 min`, `3 d 4 h`.
pub(super) fn stretch(seconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
    let whole = seconds.clamp(0.0, 1e12) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min", whole / 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// Bytes in their largest unit: `143 B`, `1.2 KiB`, `310 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "rounded to three digits anyway")]
    let mut amount = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if amount < 1000.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, next);
    }
    if unit == "B" || amount >= 100.0 {
        format!("{amount:.0} {unit}")
    } else {
        format!("{amount:.1} {unit}")
    }
}

/// A duration in milliseconds, to two or three digits: `0.3 ms`, `42 ms`, `1.5 s`.
pub(super) fn took(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// Year, month and day of a day since 1970, in the proleptic Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the day that some have more is their last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_amounts() {
        assert_eq!(date_time(0), "1970-01-01 00:00:00");
        assert_eq!(date_time(951_782_399_000), "2000-02-28 23:59:59");
        assert_eq!(date_time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(date_time(1_795_356_192_345), "2026-11-22 14:03:12");
        assert_eq!(time(1_795_356_192_345), "14:03:12.345");
        let stretches = [0.4, 59.0, 60.0, 7500.0, 277_200.0].map(stretch);
        assert_eq!(stretches, ["0 s", "59 s", "1 min", "2 h 5 min", "3 d 5 h"]);
        assert_eq!([0.31, 9.96, 42.4, 1500.0].map(took), ["0.3 ms", "10.0 ms", "42 ms", "1.5 s"]);
        let amounts = [0, 999, 1000, 1229, 325_058_560].map(bytes);
        assert_eq!(amounts, ["0 B", "999 B", "1.0 KiB", "1.2 KiB", "310 MiB"]);
    }
}
