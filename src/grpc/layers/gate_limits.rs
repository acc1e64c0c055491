//! The limits of all gates.

/// The limits of one gate.
#[derive(Clone, Copy, Debug)]
pub struct GateLimits {
    /// Of all callers together.
    pub total: usize,
    /// Of one connection.
    pub connection: usize,
}

/// The limits of all gates.
#[derive(Clone, Copy, Debug)]
pub struct CallLimits {
    /// Unary calls, and streams whose caller is being authenticated.
    pub calls: GateLimits,
    /// Streams of methods that need a scope.
    pub streams: GateLimits,
    /// Streams that any caller may open: health and reflection.
    pub anonymous_streams: GateLimits,
    /// Bytes of requests under way, beyond those that every call may have (`FREE_BYTES` of the request's body).
    pub request_bytes: GateLimits,
    /// Connections with large flow-control windows. Further connections get small ones.
    pub large_windows: GateLimits,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            calls: GateLimits {
                total: 8 * 1024,
                connection: usize::MAX,
            },
            streams: GateLimits {
                total: 8 * 1024,
                connection: usize::MAX,
            },
            // One client needs one stream for each connection that it watches.
            anonymous_streams: GateLimits {
                total: 2 * 1024,
                connection: 16,
            },
            // The largest request, of ValidateBatch, has 1.5 MiB.
            request_bytes: GateLimits {
                total: 64 << 20,
                connection: 8 << 20,
            },
            large_windows: GateLimits {
                total: 64,
                connection: 1,
            },
        }
    }
}

/// A limited resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// See [`CallLimits::calls`].
    Calls,
    /// See [`CallLimits::streams`].
    Streams,
    /// See [`CallLimits::anonymous_streams`].
    AnonymousStreams,
    /// See [`CallLimits::request_bytes`].
    RequestBytes,
    /// See [`CallLimits::large_windows`].
    LargeWindows,
}

impl GateKind {
    /// Every gate.
    pub const ALL: [Self; 5] = [
        Self::Calls,
        Self::Streams,
        Self::AnonymousStreams,
        Self::RequestBytes,
        Self::LargeWindows,
    ];

    /// Its name in metrics and in the reason of `/readyz`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Streams => "streams",
            Self::AnonymousStreams => "anonymous_streams",
            Self::RequestBytes => "request_bytes",
            Self::LargeWindows => "large_windows",
        }
    }

    /// Whether a full gate is a refusal. Without a large window, a connection gets a small one.
    pub(super) const fn refuses(self) -> bool {
        !matches!(self, Self::LargeWindows)
    }

    /// Whether the replica is not ready while this gate is full. Only the gate of streams with a scope: callers without a
    /// credential can fill the other ones, and must not be able to take replicas out of service. `/readyz` names the other
    /// gates in a note.
    pub(super) const fn is_essential(self) -> bool {
        matches!(self, Self::Streams)
    }

    pub(super) fn limits(self, of: &CallLimits) -> GateLimits {
        match self {
            Self::Calls => of.calls,
            Self::Streams => of.streams,
            Self::AnonymousStreams => of.anonymous_streams,
            Self::RequestBytes => of.request_bytes,
            Self::LargeWindows => of.large_windows,
        }
    }
}
