//! The error of a command and its exit code.

use std::io;
use std::process::ExitCode;

use tonic_types::StatusExt as _;

use super::output;
use super::text::printable;
use crate::app::StartError;
use crate::config::{ConfigError, LogFormat};
use crate::model::{Error, ErrorKind};
use crate::proto::convert::reason;
use crate::telemetry::log_start_failure;

/// Exit code of a wrong command line or configuration (`EX_USAGE` of sysexits.h).
pub(super) const USAGE: u8 = 64;
/// Exit code if a store or server cannot be reached (`EX_UNAVAILABLE`).
pub(super) const UNREACHABLE: u8 = 69;
/// Exit code of every other failure.
pub(super) const OTHER: u8 = 1;

/// The failure of a command. The message is one line; `None` if the command has already printed what is wrong.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    message: Option<String>,
    output: ErrorOutput,
}

/// How the message is printed.
#[derive(Clone, Copy, Debug)]
enum ErrorOutput {
    /// As a line of text.
    Text,
    /// As a line of the log, whose configured format this is, if that is JSON.
    Log(Option<LogFormat>),
}

impl Failure {
    /// The command line or configuration is wrong.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self {
            code: USAGE,
            message: Some(message.into()),
            output: ErrorOutput::Text,
        }
    }

    /// A store or server cannot be reached.
    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self {
            code: UNREACHABLE,
            message: Some(message.into()),
            output: ErrorOutput::Text,
        }
    }

    /// Every other failure.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self {
            code: OTHER,
            message: Some(message.into()),
            output: ErrorOutput::Text,
        }
    }

    /// A failure without a message, because the command has already printed what is wrong.
    pub(super) fn silent() -> Self {
        Self::exit_code(OTHER)
    }

    /// A failure without a message and with this exit code.
    pub(super) fn exit_code(code: u8) -> Self {
        Self {
            code,
            message: None,
            output: ErrorOutput::Text,
        }
    }

    /// The failure of a command that logs: where the log is JSON, the message is a line of the log. `configured` is the format
    /// of the configuration, if it sets one.
    pub(super) fn in_log(self, configured: Option<LogFormat>) -> Self {
        Self {
            output: ErrorOutput::Log(configured),
            ..self
        }
    }

    /// The same failure with text before its message.
    pub(super) fn prefixed(mut self, text: &str) -> Self {
        self.message = self.message.map(|message| format!("{text}: {message}"));
        self
    }

    /// Prints the message and returns the exit code.
    pub(super) fn report(self) -> ExitCode {
        if let Some(message) = &self.message {
            let is_logged = match self.output {
                ErrorOutput::Text => false,
                ErrorOutput::Log(configured) => log_start_failure(configured, message, self.code),
            };
            if !is_logged {
                output::print_error(message);
            }
        }
        ExitCode::from(self.code)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

/// A store cannot be opened, or the service cannot start.
impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self {
            code: error.exit_code(),
            message: Some(error.to_string()),
            output: ErrorOutput::Text,
        }
    }
}

/// Writing the output failed. A closed pipe (`| head`) is not worth a message.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::silent();
        }
        Self::other(format!("cannot write the output: {error}"))
    }
}

/// An operation on the store failed. The message includes the cause, because the owner of the store may see it.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = describe(&error.to_string(), reason::of_kind(error.kind).unwrap_or_default());
        if error.kind == ErrorKind::StoreUnavailable {
            return Self::unreachable(message);
        }
        Self::other(message)
    }
}

/// A call to a server failed.
impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let details = status.get_error_details();
        let reason = details
            .error_info()
            .map(|info| info.reason.as_str())
            .unwrap_or_default();
        if std::error::Error::source(&status).is_some_and(<dyn std::error::Error>::is::<tonic::transport::Error>) {
            return Self::unreachable(format!(
                "{}: the server does not speak gRPC over the scheme of --server; try https:// instead of http://, or http:// \
                 instead of https://",
                printable(status.message())
            ));
        }
        let message = describe(status.message(), reason);
        // The service sends a reason, or INTERNAL. A status without a reason and with another code, or INTERNAL with a
        // source, comes from the client side: the connection broke.
        let code = status.code();
        let broken = [tonic::Code::Unknown, tonic::Code::Cancelled].contains(&code)
            || (code == tonic::Code::Internal && std::error::Error::source(&status).is_some());
        if reason.is_empty() && broken {
            return Self::unreachable(format!(
                "the connection to the server broke ({message}); run the command again"
            ));
        }
        if status.code() == tonic::Code::Unavailable {
            return Self::unreachable(message);
        }
        Self::other(message)
    }
}

/// What is wrong, the reason's name in the protocol, and what to do.
fn describe(message: &str, reason: &str) -> String {
    let mut text = printable(message);
    if !reason.is_empty() {
        text = format!("{text} ({})", printable(reason));
    }
    if let Some(hint) = hint(reason) {
        text = format!("{text}; {hint}");
    }
    text
}

fn hint(reason: &str) -> Option<&'static str> {
    match reason {
        "CALLER_UNAUTHENTICATED" | "CALLER_NOT_ALLOWED" => {
            Some("set COUNTERSIGN_TOKEN to an access token with the required scope")
        }
        "SCOPE_NOT_ALLOWED" | "AUDIENCE_NOT_ALLOWED" | "GRANT_NOT_ALLOWED" => {
            Some("`countersign client update` can allow it")
        }
        "USER_NOT_FOUND" => Some("`countersign user list` lists them"),
        "CLIENT_NOT_FOUND" => Some("`countersign client list` lists them"),
        "KEY_NOT_FOUND" => Some("`countersign key list` lists them"),
        "STALE_UPDATE" => Some("try again"),
        "STORE_UNAVAILABLE" | "OVERLOADED" | "THROTTLED" => Some("try again in a moment"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn exit_codes_distinguish_usage_outage_and_refusal() {
        let of = |failure: Failure| (failure.code, failure.message.unwrap_or_default());
        assert_eq!(of(ConfigError::new("bad").into()).0, 64);
        assert_eq!(of(Error::store_unavailable("down").into()).0, 69);
        assert_eq!(of(Error::invalid("user.email", "bad").into()).0, 1);
        assert_eq!(of(tonic::Status::unavailable("x").into()).0, 69);
        assert_eq!(of(tonic::Status::internal("a defect").into()).0, 1);
        assert_eq!(of(tonic::Status::unknown("a body that ended").into()).0, 69);
        let details = ErrorDetails::with_error_info("CALLER_NOT_ALLOWED", "countersign", []);
        let status = tonic::Status::with_error_details(tonic::Code::PermissionDenied, "no\u{1b}[2J", details);
        let (code, message) = of(status.into());
        assert_eq!(code, 1);
        assert!(
            message.contains("COUNTERSIGN_TOKEN") && !message.contains('\u{1b}'),
            "{message}"
        );
    }
}
