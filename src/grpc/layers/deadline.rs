//! Deadlines: the caller's `grpc-timeout` within the configured bounds.

use std::time::Duration;

use http::HeaderValue;

use crate::model::{Error, ErrorKind, Result};

/// Subtracted from the caller's timeout for the way back: a response that comes after the caller gave up is useless.
const RESPONSE_MARGIN: Duration = Duration::from_millis(20);

/// Longest time to receive a small request. A caller has its whole request at hand when it calls, so this is the time on
/// the network, whatever deadline the caller sets for the work.
const MAX_RECEIVE: Duration = Duration::from_secs(5);

/// Each of these many bytes that a method allows gives a request one second more: a batch may need many round trips.
const BYTES_PER_SECOND: usize = 128 * 1024;

/// While more than half of a gate is in use, a request has one part in this many of its usual time: callers that begin
/// requests and do not complete them then hold the rest of the gate for half a second only.
const CROWDED_PARTS: u32 = 10;

/// The bounds of deadlines, from the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Deadline of a unary call without `grpc-timeout`.
    pub default: Duration,
    /// Longest deadline of a unary call, whatever the caller asks for.
    pub max: Duration,
}

impl Deadlines {
    /// How long a request, or one message of a stream, may take to arrive, if it may have `max_request` bytes. While the
    /// gate of the call is crowded, a part of that.
    pub(super) fn receive(self, max_request: usize, crowded: bool) -> Duration {
        let seconds = u32::try_from(max_request / BYTES_PER_SECOND).unwrap_or(u32::MAX);
        let usual = self.default.min(MAX_RECEIVE) + Duration::from_secs(1).saturating_mul(seconds);
        if crowded { usual / CROWDED_PARTS } else { usual }
    }

    /// How long a unary call may take from now on.
    ///
    /// # Errors
    /// `INVALID_REQUEST` for a malformed header, `DEADLINE_EXCEEDED` if less than [`RESPONSE_MARGIN`] is left.
    pub(super) fn for_unary(self, timeout: Option<&HeaderValue>) -> Result<Duration> {
        Ok(for_stream(timeout)?.unwrap_or(self.default).min(self.max))
    }
}

/// How long a stream may last: without limit, unless its caller sets one.
pub(super) fn for_stream(timeout: Option<&HeaderValue>) -> Result<Option<Duration>> {
    let Some(timeout) = timeout else {
        return Ok(None);
    };
    let timeout = parse(timeout.as_bytes())
        .ok_or_else(|| Error::invalid("grpc-timeout", "must be 1-8 digits and one of H M S m u n"))?;
    match timeout.checked_sub(RESPONSE_MARGIN) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(ErrorKind::DeadlineExceeded.into()),
    }
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol over HTTP/2.
fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0_u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines {
        default: Duration::from_secs(5),
        max: Duration::from_secs(10),
    };

    fn unary(timeout: &str) -> Result<Duration> {
        DEADLINES.for_unary(Some(&HeaderValue::from_str(timeout).unwrap()))
    }

    #[test]
    fn the_callers_deadline_counts_within_the_bounds() {
        assert_eq!(DEADLINES.for_unary(None).unwrap(), Duration::from_secs(5));
        assert_eq!(unary("1S").unwrap(), Duration::from_millis(980));
        assert_eq!(unary("100m").unwrap(), Duration::from_millis(80));
        assert_eq!(unary("99999999H").unwrap(), Duration::from_secs(10));
        assert_eq!(for_stream(None).unwrap(), None);
    }

    #[test]
    fn too_short_a_deadline_is_refused_at_once() {
        for too_short in ["0n", "0S", "20m", "19999u", "1n"] {
            assert_eq!(
                unary(too_short).unwrap_err().kind,
                ErrorKind::DeadlineExceeded,
                "{too_short}"
            );
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for bad in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", "1 S", "1SS", "0x1S"] {
            assert_eq!(unary(bad).unwrap_err().kind, ErrorKind::InvalidRequest, "{bad:?}");
        }
    }
}
