//! `strftime_now` for templates that tell the model the date.

use std::fmt::Write;

/// Seconds since 1970 on the wall clock that the user sees.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn now() -> i64 {
    // The standard library does not know the time zone: UTC.
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs() as i64)
}

/// Seconds since 1970 on the wall clock that the user sees.
#[cfg(target_arch = "wasm32")]
pub(super) fn now() -> i64 {
    let date = js_sys::Date::new_0();
    (date.get_time() / 1000.0 - date.get_timezone_offset() * 60.0) as i64
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Python's `strftime` in the C locale. A directive that it does not know stays as it is, as glibc leaves it.
pub(super) fn strftime(seconds: i64, format: &str) -> String {
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let weekday = (days + 4).rem_euclid(7) as usize; // 1970-01-01 was a Thursday
    let year_day = days - days_from_civil(year, 1, 1) + 1;
    let month_name = MONTHS[month as usize - 1];

    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = chars.next();
        let flag = directive.filter(|c| "-_0".contains(*c));
        if flag.is_some() {
            directive = chars.next();
        }
        // Number, width and what fills it up.
        let (n, width, fill) = match directive {
            Some('Y') => (year, 1, '0'),
            Some('y') => (year.rem_euclid(100), 2, '0'),
            Some('m') => (month, 2, '0'),
            Some('d') => (day, 2, '0'),
            Some('e') => (day, 2, ' '),
            Some('H') => (hour, 2, '0'),
            Some('I') => ((hour + 11) % 12 + 1, 2, '0'),
            Some('M') => (minute, 2, '0'),
            Some('S') => (second % 60, 2, '0'),
            Some('j') => (year_day, 3, '0'),
            Some('w') => (weekday as i64, 1, '0'),
            Some('u') => ((weekday as i64 + 6) % 7 + 1, 1, '0'),
            Some(other) => {
                match other {
                    'B' => out.push_str(month_name),
                    'b' | 'h' => out.push_str(&month_name[..3]),
                    'A' => out.push_str(DAYS[weekday]),
                    'a' => out.push_str(&DAYS[weekday][..3]),
                    'p' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
                    'F' => out.push_str(&strftime(seconds, "%Y-%m-%d")),
                    'T' | 'X' => out.push_str(&strftime(seconds, "%H:%M:%S")),
                    'R' => out.push_str(&strftime(seconds, "%H:%M")),
                    'D' | 'x' => out.push_str(&strftime(seconds, "%m/%d/%y")),
                    'c' => out.push_str(&strftime(seconds, "%a %b %e %H:%M:%S %Y")),
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    '%' => out.push('%'),
                    // A naive `datetime` has no zone.
                    'Z' | 'z' => {}
                    _ => {
                        out.push('%');
                        out.extend(flag);
                        out.push(other);
                    }
                }
                continue;
            }
            None => {
                out.push('%');
                out.extend(flag);
                continue;
            }
        };
        let number = n.to_string();
        let fill = match flag {
            Some('-') => None,
            Some('_') => Some(' '),
            Some('0') => Some('0'),
            _ => Some(fill),
        };
        if let Some(fill) = fill {
            (number.len()..width).for_each(|_| out.push(fill));
        }
        write!(out, "{number}").expect("to a string");
    }
    out
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so that the leap day is the last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month (1 to 12) and day of a number of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = (march_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * march_month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::{civil, days_from_civil, strftime};

    #[test]
    fn known_moments() {
        // `date -u -d @SECONDS`
        let cases = [
            (0, "%A %d %B %Y %H:%M:%S %j", "Thursday 01 January 1970 00:00:00 001"),
            (951_782_400, "%F %T, %a %b %e", "2000-02-29 00:00:00, Tue Feb 29"),
            (1_767_225_599, "%Y-%m-%d %I:%M %p %j %u %w", "2025-12-31 11:59 PM 365 3 3"),
            (1_772_496_000, "%-d %B %Y %-m%% %_H %y", "3 March 2026 3%  0 26"),
            (1_709_251_200, "%d/%m|%D|%R|%q|%", "01/03|03/01/24|00:00|%q|%"),
            (-1, "%F %T", "1969-12-31 23:59:59"),
        ];
        for (seconds, format, expected) in cases {
            assert_eq!(strftime(seconds, format), expected, "{seconds} {format}");
        }
    }

    #[test]
    fn dates_go_both_ways() {
        for days in (-800_000..800_000).step_by(37) {
            let (year, month, day) = civil(days);
            assert_eq!(days_from_civil(year, month, day), days);
            assert!((1..=12).contains(&month) && (1..=31).contains(&day), "{year}-{month}-{day}");
        }
    }
}
