//! Times and durations.

use std::time::Duration;

use crate::clock::UnixMillis;
use crate::model::{Error, Result};

/// The range of `google.protobuf.Timestamp`: the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// The largest `google.protobuf.Duration` in seconds: 10,000 years. Negative durations are refused.
const MAX_DURATION: i64 = 315_576_000_000;

/// A time as a message. A time outside the years 1 to 9999 becomes the nearest one inside.
#[must_use]
pub fn timestamp(at: UnixMillis) -> prost_types::Timestamp {
    let seconds = at.0.div_euclid(1000);
    let clamped = seconds.clamp(*SECONDS.start(), *SECONDS.end());
    let millis = if clamped == seconds { at.0.rem_euclid(1000) } else { 0 };
    prost_types::Timestamp {
        seconds: clamped,
        nanos: i32::try_from(millis * 1_000_000).unwrap_or(0),
    }
}

/// A time in whole seconds since the Unix epoch, as a message.
#[must_use]
pub fn timestamp_of_secs(secs: i64) -> prost_types::Timestamp {
    timestamp(UnixMillis::from_secs(secs))
}

/// The time of a message, rounded down to milliseconds.
///
/// # Errors
/// `INVALID_REQUEST` for `field` if the message is not a valid timestamp.
pub fn moment(timestamp: &prost_types::Timestamp, field: &'static str) -> Result<UnixMillis> {
    let nanos = i64::from(timestamp.nanos);
    if !SECONDS.contains(&timestamp.seconds) || !(0..1_000_000_000).contains(&nanos) {
        return Err(Error::invalid(field, "must be a time between the years 1 and 9999"));
    }
    Ok(UnixMillis(timestamp.seconds * 1000 + nanos / 1_000_000))
}

/// A duration as a message; it saturates at the largest one.
#[must_use]
pub fn duration(span: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.as_secs()).unwrap_or(MAX_DURATION).min(MAX_DURATION),
        nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0),
    }
}

/// The duration of a message.
///
/// # Errors
/// `INVALID_REQUEST` for `field` if the duration is negative or not valid.
pub fn span(duration: &prost_types::Duration, field: &'static str) -> Result<Duration> {
    let out_of_range = || Error::invalid(field, "must be a duration of zero or more");
    if duration.seconds > MAX_DURATION {
        return Err(out_of_range());
    }
    let seconds = u64::try_from(duration.seconds).map_err(|_| out_of_range())?;
    let nanos = u32::try_from(duration.nanos).map_err(|_| out_of_range())?;
    if nanos >= 1_000_000_000 {
        return Err(out_of_range());
    }
    Ok(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_round_trip() {
        for millis in [0, 1, -1, 1_700_000_000_123, -62_135_596_800_000, 253_402_300_799_999] {
            let sent = timestamp(UnixMillis(millis));
            assert_eq!(moment(&sent, "time").unwrap(), UnixMillis(millis));
        }
    }

    #[test]
    fn invalid_times_are_refused_and_large_ones_clamped() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            let timestamp = prost_types::Timestamp { seconds, nanos };
            assert_eq!(moment(&timestamp, "since").unwrap_err().violations[0].field, "since");
        }
        assert_eq!(timestamp(UnixMillis(i64::MAX)).seconds, 253_402_300_799);
        assert_eq!(timestamp(UnixMillis(i64::MIN)).seconds, -62_135_596_800);
    }

    #[test]
    fn durations_survive_the_round_trip_and_are_never_negative() {
        for sent in [Duration::ZERO, Duration::from_millis(1), Duration::from_hours(24 * 400)] {
            assert_eq!(span(&duration(sent), "overlap").unwrap(), sent);
        }
        for (seconds, nanos) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MAX, 0)] {
            let duration = prost_types::Duration { seconds, nanos };
            assert!(span(&duration, "overlap").is_err());
        }
        assert_eq!(duration(Duration::MAX).seconds, MAX_DURATION);
    }
}
