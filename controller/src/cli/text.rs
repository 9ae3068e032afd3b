//! Tables, times and durations for people.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tidegate_wire::report::Feedback;

/// An aligned table. Columns are as wide as their widest cell; the last one is not padded.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|name| (*name).to_owned()).collect()] }
    }

    /// Adds a row. Missing cells stay empty; a line break in a cell begins no row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.replace('\n', " ")).collect());
    }

    /// Whether there is nothing below the column names.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Milliseconds since 1970 by the system's clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-05 14:03:09` in UTC, from Unix milliseconds.
pub fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a number of days since 1970-01-01.
///
/// # Source
/// Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*, `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date; the inverse of [`civil`].
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `3 s`, `4 min`, `2 h`, `5 d`: one unit, rounded down.
pub fn span(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// `12 s ago`, from Unix milliseconds.
pub fn ago(ms: u64, now_ms: u64) -> String {
    format!("{} ago", span(now_ms.saturating_sub(ms)))
}

/// `1.4 MB`, `312 kB`, `88 B`: powers of ten.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Reads a duration: a whole number and `s`, `m`, `h` or `d`, as in `24h`.
///
/// # Errors
/// A sentence for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write a number and s, m, h or d, as in 24h");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).map(Duration::from_secs).ok_or_else(wrong)
}

/// Reads a moment: a duration before `now_ms`, or a UTC date with or without a time, as in
/// `2026-11-05` or `2026-11-05T14:03`. Returns Unix milliseconds.
///
/// # Errors
/// A sentence for the user.
pub fn moment(text: &str, now_ms: u64) -> Result<u64, String> {
    if let Ok(duration) = duration(text) {
        return Ok(now_ms.saturating_sub(duration.as_millis() as u64));
    }
    date(text).ok_or_else(|| {
        format!(
            "{text:?} is no moment: write how long ago, as in 2h, or a UTC date, as in 2026-11-05 \
             or 2026-11-05T14:03"
        )
    })
}

fn date(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let number = |text: &str, range: std::ops::RangeInclusive<u64>| {
        let digits =
            !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse().ok().filter(|_| digits)?;
        range.contains(&value).then_some(value)
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 1970..=9999)?;
    let (month, day) = (number(parts.next()?, 1..=12)?, number(parts.next()?, 1..=31)?);
    let mut clock = time.trim_end_matches('Z').split(':');
    let (hour, minute) = (number(clock.next()?, 0..=23)?, number(clock.next()?, 0..=59)?);
    let second = clock.next().map_or(Some(0), |second| number(second, 0..=59))?;
    let days = days_of(year, month, day);
    // 30 February is a well-formed day that does not exist.
    let exists = civil(days) == (year, month, day);
    let rest = parts.next().is_none() && clock.next().is_none();
    (exists && rest).then_some((days * 86_400 + hour * 3600 + minute * 60 + second) * 1000)
}

/// Reads `key=value,key=value` into labels.
///
/// # Errors
/// A sentence for the user.
pub fn labels(text: &str) -> Result<tidegate_wire::Labels, String> {
    let mut labels = tidegate_wire::Labels::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .filter(|(key, value)| !key.is_empty() && !value.is_empty())
            .ok_or_else(|| format!("{pair:?} is no label: write key=value, as in site=oslo"))?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("the label {key:?} is given twice"));
        }
    }
    Ok(labels)
}

/// Labels as they are written: `hw=pi4,site=oslo`.
pub fn show_labels(labels: &tidegate_wire::Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join(",")
}

/// Rows to which each humility rule applied.
pub(super) fn doubts(rules: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = rules.iter().map(|(rule, rows)| format!("{rows} {rule}")).collect();
    if each.is_empty() { "-".to_owned() } else { each.join(", ") }
}

/// How many of the answers that a label came for were right.
pub(super) fn right(feedback: &Feedback) -> String {
    let Feedback { matched, correct, .. } = feedback;
    feedback.accuracy().map_or_else(
        || "-".to_owned(),
        |accuracy| format!("{:.1} % ({correct} of {matched})", accuracy * 100.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let mut table = Table::new(&["DEVICE", "STATE", "WHY"]);
        table.row(["pi-4".into(), "on trial".into(), String::new()]);
        table.row(["gateway-é".into(), "idle".into(), "none".into()]);
        let expected = "DEVICE     STATE     WHY\npi-4       on trial\ngateway-é  idle      none\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn dates_go_both_ways() {
        assert_eq!(time(0), "1970-01-01 00:00:00");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(time(1_793_887_389_999), "2026-11-05 14:03:09");
        for day in (0..60_000).step_by(17) {
            let (year, month, date) = civil(day);
            assert_eq!(days_of(year, month, date), day);
        }
        assert_eq!(moment("2000-02-29", 0), Ok(951_782_400_000));
        assert_eq!(moment("2026-11-05T14:03:09Z", 0), Ok(1_793_887_389_000));
        assert_eq!(moment("2h", 7_200_500), Ok(500));
        for text in ["", "x", "2026-02-30", "2026-13-01", "2026-1-1-1", "2026-01-01T24:00", "1h2"] {
            assert!(moment(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_and_sizes() {
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for text in ["", "h", "24", "1w", "-1h", "99999999999999999999s", "9999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(span(999), "999 ms");
        assert_eq!(span(119_000), "119 s");
        assert_eq!(span(7_200_000), "2 h");
        assert_eq!([size(999), size(1_000), size(2_500_000)], ["999 B", "1.0 kB", "2.5 MB"]);
    }

    #[test]
    fn labels_are_pairs() {
        let labels_of = labels("site=oslo,hw=pi4").unwrap();
        assert_eq!(show_labels(&labels_of), "hw=pi4,site=oslo");
        assert_eq!(labels("").unwrap().len(), 0);
        for text in ["site", "site=", "=oslo", "a=1,a=2"] {
            assert!(labels(text).is_err(), "{text}");
        }
    }
}
