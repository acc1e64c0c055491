//! Durations and rates as the configuration and the command line write them: `300ms`, `1h30m`, `10/1m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Units in milliseconds, largest first. A duration uses them in this order, each at most once.
const UNITS: [(&str, u64); 6] = [
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Parses a duration: whole numbers with the units w, d, h, m, s, ms, largest unit first (`1h30m`).
///
/// A number without a unit is refused, except `0`: it is not obvious whether it would mean seconds or milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration; write for instance 300ms, 15m, 1h30m or 30d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut total, mut units) = (text, 0u64, UNITS.iter());
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (name, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let (_, millis) = units.find(|(unit, _)| *unit == name).ok_or_else(invalid)?;
        total = number
            .checked_mul(*millis)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(invalid)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(invalid());
    }
    Ok(Duration::from_millis(total))
}

/// Formats a duration so that [`parse_duration`] gives the same duration.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // Weeks are not used: `30d` is easier to read than `4w2d`.
    for (unit, millis) in UNITS.iter().skip(1) {
        if rest >= *millis {
            text.push_str(&(rest / millis).to_string());
            text.push_str(unit);
            rest %= millis;
        }
    }
    text
}

/// A rate: a number of events in a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The number of events; at least 1.
    pub count: u32,
    /// The duration; at least 1 ms.
    pub per: Duration,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a rate; write for instance 10/1m");
        let (count, per) = text.split_once('/').ok_or_else(invalid)?;
        let count = count.parse().map_err(|_| invalid())?;
        let per = parse_duration(per).map_err(|_| invalid())?;
        if count == 0 || per.is_zero() {
            return Err(invalid());
        }
        Ok(Self { count, per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, format_duration(self.per))
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units_largest_first() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("1w", 604_800_000),
            ("1s500ms", 1_500),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "",
            "15",
            "15 m",
            "m",
            "-1s",
            "1.5h",
            "1m1h",
            "1s1s",
            "15M",
            "1µs",
            "99999999999999999999s",
            "999999999999999d",
            "1h 30m",
            "٣s",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_a_count_in_a_duration() {
        let rate: Rate = "10/1m".parse().unwrap();
        assert_eq!((rate.count, rate.per), (10, Duration::from_mins(1)));
        assert_eq!(rate.to_string(), "10/1m");
        for bad in ["", "10", "10/", "/1m", "0/1m", "10/0s", "10/1m/1m", "-1/1m", "ten/1m"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_formatted_duration_is_parsed_back(millis in 0u64..=u64::MAX / 2) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,40}") {
            let _ = parse_duration(&text);
            let _ = text.parse::<Rate>();
        }
    }
}
