//! Sources: the addresses that calls come from, in the form in which limits count them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The source of a call: an IPv4 address, or the /64 network of an IPv6 address.
///
/// One IPv6 customer usually holds a whole /64 (RFC 6177 §2), so single IPv6 addresses would give one caller 2^64 budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source(IpAddr);

impl Source {
    /// The source of an address. An IPv4 address that is mapped into IPv6 counts as the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(network(address, 64))
    }

    /// The source of an address in text form; `None` if the text is no address. Port, zone and brackets are no part of an
    /// address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().map(Self::of)
    }

    /// The source of a caller with this address. Callers without an address, on the command line, share one source.
    #[must_use]
    pub fn of_peer(address: &str) -> Self {
        Self::parse(address).unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }

    /// The site that the source belongs to: the /48 of an IPv6 source, because one customer may hold that many networks.
    /// An IPv4 source is its own site.
    #[must_use]
    pub fn site(self) -> Self {
        Self(network(self.0, 48))
    }

    /// Whether the source is an IPv6 network, so that its [`Self::site`] is another source.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.0.is_ipv6()
    }

    /// The first address of the source.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The first address of the network that `address` is in; `prefix` is the length of an IPv6 prefix in bits.
fn network(address: IpAddr, prefix: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - prefix))).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_spellings_of_one_source_are_equal() {
        for (texts, source, site) in [
            (
                &["192.0.2.1", "::ffff:192.0.2.1", "::FFFF:c000:201"][..],
                "192.0.2.1",
                "192.0.2.1",
            ),
            (
                &["2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:ffff", "2001:0db8:0001:0002::"],
                "2001:db8:1:2::",
                "2001:db8:1::",
            ),
        ] {
            for text in texts {
                let parsed = Source::parse(text).unwrap();
                assert_eq!(
                    (parsed.to_string(), parsed.site().to_string()),
                    (source.into(), site.into()),
                    "{text}"
                );
            }
        }
        assert_ne!(Source::parse("2001:db8:1:2::1"), Source::parse("2001:db8:1:3::1"));
        assert_ne!(Source::parse("192.0.2.1"), Source::parse("192.0.2.2"));
    }

    #[test]
    fn a_text_that_is_no_address_has_no_source() {
        for text in [
            "",
            "localhost",
            "192.0.2.1:80",
            "[::1]",
            "fe80::1%eth0",
            "192.0.2.1 ",
            "192.0.2.01",
        ] {
            assert_eq!(Source::parse(text), None, "{text}");
        }
    }
}
