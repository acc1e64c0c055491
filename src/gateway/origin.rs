//! Protection against cross-site request forgery. A browser sends cookies even with requests that another site caused,
//! so a request that changes something must come from a page of the same origin.
//!
//! Browsers say so in headers that no page can set: `Sec-Fetch-Site` (W3C Fetch Metadata), and in older browsers
//! `Origin` (RFC 6454).

/// What a request says about its origin. `None` means that it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOrigin<'a> {
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// `Host`: the server that the browser called.
    pub host: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// Whether it asks for another protocol, as web sockets do. Such a GET can do more than read.
    pub upgrade: bool,
}

impl RequestOrigin<'_> {
    /// Whether its cookies may be used: it changes nothing (safe methods, RFC 9110 §9.2.1), or it comes from a page of
    /// the same origin. An unknown method counts as one that changes something.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        let reads = matches!(self.method, Some("GET" | "HEAD" | "OPTIONS")) && !self.upgrade;
        reads || self.is_same_origin()
    }

    fn is_same_origin(&self) -> bool {
        match (self.fetch_site, self.origin, self.host) {
            (Some(site), ..) => site == "same-origin",
            (None, Some(origin), Some(host)) => {
                let authority = origin
                    .strip_prefix("https://")
                    .or_else(|| origin.strip_prefix("http://"));
                !host.is_empty() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
            }
            (None, ..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: RequestOrigin<'_> = RequestOrigin {
        method: Some("POST"),
        host: Some("app.example"),
        fetch_site: None,
        origin: None,
        upgrade: false,
    };

    #[test]
    fn safe_methods_may_come_from_any_site() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let request = RequestOrigin {
                method: Some(method),
                fetch_site: Some("cross-site"),
                ..POST
            };
            assert!(request.is_trusted(), "{method}");
            let socket = RequestOrigin {
                upgrade: true,
                ..request
            };
            assert!(!socket.is_trusted(), "an upgraded {method}");
        }
        for method in [
            None,
            Some("POST"),
            Some("PUT"),
            Some("DELETE"),
            Some("get"),
            Some("BREW"),
            Some(""),
        ] {
            assert!(
                !RequestOrigin { method, ..POST }.is_trusted(),
                "{method:?} without origin"
            );
        }
    }

    #[test]
    fn other_methods_need_the_same_origin() {
        let from = |fetch_site, origin| {
            RequestOrigin {
                fetch_site,
                origin,
                ..POST
            }
            .is_trusted()
        };
        assert!(from(Some("same-origin"), None));
        for site in ["same-site", "cross-site", "none", "Same-Origin", ""] {
            assert!(!from(Some(site), Some("https://app.example")), "{site}");
        }
        assert!(from(None, Some("https://app.example")));
        assert!(from(None, Some("http://APP.example")));
        for origin in [
            "null",
            "",
            "https://app.example:8443",
            "https://app.example.evil",
            "https://evil/app.example",
            "app.example",
            "ftp://app.example",
        ] {
            assert!(!from(None, Some(origin)), "{origin}");
        }
        let empty = RequestOrigin {
            host: Some(""),
            origin: Some("https://"),
            ..POST
        };
        assert!(!empty.is_trusted());
    }
}
