//! The log lines of a client that follows the service: one when the service is lost, with the cause, and one when it is back.

use std::error::Error as _;
use std::time::Duration;

use tonic::Status;

/// Logs when the service is lost and when it is back.
#[derive(Debug)]
pub(crate) struct OutageLog {
    address: String,
    /// What follows while the service is lost.
    effect: &'static str,
    /// Since when it is lost, by the monotonic clock.
    lost: Option<Duration>,
}

impl OutageLog {
    /// For the service at `address`, which is not lost so far.
    pub(crate) const fn new(address: String, effect: &'static str) -> Self {
        Self {
            address,
            effect,
            lost: None,
        }
    }

    /// Notes that the service did not answer.
    pub(crate) fn lost(&mut self, status: &Status, now: Duration) {
        if self.lost.is_some() {
            return;
        }
        self.lost = Some(now);
        let Self { address, effect, .. } = self;
        let cause = cause(status);
        tracing::warn!(
            address,
            error = cause,
            "cannot reach the service at {address}: {cause}; {effect}"
        );
    }

    /// Notes that it answers.
    pub(crate) fn answered(&mut self, now: Duration) {
        let Some(since) = self.lost.take() else { return };
        let address = &self.address;
        let outage_seconds = now.saturating_sub(since).as_secs_f64();
        tracing::info!(
            address,
            outage_seconds,
            "the service at {address} answers again after {outage_seconds:.1} s"
        );
    }
}

/// Why a call failed, for the log. The message of a status says only that the transport failed; its sources say why: the
/// connection was refused, the name is unknown, the certificate is not trusted.
pub(crate) fn cause(status: &Status) -> String {
    let mut texts = vec![status.message().to_owned()];
    let mut source = status.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        source = error.source();
    }
    texts.retain(|text| !text.is_empty());
    format!("{:?}: {}", status.code(), texts.join(": "))
}

/// The host and port of a URL, for the log: a URL may hold a password.
pub(super) fn address(url: &str) -> String {
    let uri: Option<http::Uri> = url.parse().ok();
    let authority = uri.as_ref().and_then(http::Uri::authority);
    authority.map_or_else(String::new, |authority| {
        let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", authority.host())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_cause_has_every_source_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("transport error")]
        struct Outer(#[source] std::io::Error);
        let mut status = Status::unavailable("transport error");
        status.set_source(Arc::new(Outer(std::io::Error::other(
            "invalid peer certificate: UnknownIssuer",
        ))));
        assert_eq!(
            cause(&status),
            "Unavailable: transport error: invalid peer certificate: UnknownIssuer"
        );
        assert_eq!(cause(&Status::permission_denied("no")), "PermissionDenied: no");
    }

    #[test]
    fn an_address_has_no_password() {
        assert_eq!(
            address("https://user:canary@auth.example:50051/x"),
            "auth.example:50051"
        );
        assert_eq!(address("http://[::1]:50051"), "[::1]:50051");
        assert_eq!(address("\u{7f}"), "");
    }
}
