//! Cross-site request forgery: a browser sends cookies along with requests that another site made it send. What changes
//! something must therefore come from a page of the same origin.
//!
//! Browsers say so themselves, in headers that no page can set: `Sec-Fetch-Site` (W3C Fetch Metadata) and, older,
//! `Origin` (RFC 6454).

/// What a request tells of where it comes from. `None`: not told.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOrigin<'a> {
    /// The method.
    pub method: Option<&'a str>,
    /// Whom the browser meant to ask: `Host`.
    pub host: Option<&'a str>,
    /// `Sec-Fetch-Site`.
    pub fetch_site: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// Whether it asks for another protocol, as web sockets do: a GET that does more than to read.
    pub upgrade: bool,
}

impl RequestOrigin<'_> {
    /// Whether it may count on cookies: it changes nothing (RFC 9110 §9.2.1), or comes from our own pages. A method that
    /// is not told may be any.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        let reads = matches!(self.method, Some("GET" | "HEAD" | "OPTIONS")) && !self.upgrade;
        reads || self.is_same_origin()
    }

    fn is_same_origin(&self) -> bool {
        match (self.fetch_site, self.origin, self.host) {
            (Some(site), ..) => site == "same-origin",
            (None, Some(origin), Some(host)) => {
                let told = origin
                    .strip_prefix("https://")
                    .or_else(|| origin.strip_prefix("http://"));
                !host.is_empty() && told.is_some_and(|told| told.eq_ignore_ascii_case(host))
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
    fn what_only_reads_may_come_from_anywhere() {
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
                "{method:?} that tells nothing"
            );
        }
    }

    #[test]
    fn the_browser_says_where_from() {
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
        let nobody = RequestOrigin {
            host: Some(""),
            origin: Some("https://"),
            ..POST
        };
        assert!(!nobody.is_trusted());
    }
}
