//! The peer of a connection: its address and the names in its certificate.

use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A name in a verified client certificate (RFC 5280 §4.2.1.6) that can be mapped to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// A URI, for instance the SPIFFE id `spiffe://example.org/gateway`.
    Uri(String),
    /// A DNS name.
    Dns(String),
}

impl PeerName {
    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uri(name) | Self::Dns(name) => name,
        }
    }
}

/// The peer of a connection. Made once and shared by all requests of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that it connects from.
    pub address: SocketAddr,
    /// Whether many callers share the address, so that limits by source do not apply: a Unix socket, or a proxy that
    /// `server.shared_sources` names.
    pub is_shared: bool,
    /// URI and DNS names of the client certificate, which the TLS handshake has verified; empty without a certificate.
    pub names: Vec<PeerName>,
}

impl Peer {
    /// A peer without a certificate.
    #[must_use]
    pub fn anonymous(address: SocketAddr) -> Self {
        Self {
            address,
            is_shared: false,
            names: Vec::new(),
        }
    }

    /// A process of this machine that came through a Unix socket. It has the loopback address.
    #[must_use]
    pub fn local() -> Self {
        Self {
            is_shared: true,
            ..Self::anonymous(SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)))
        }
    }

    /// A peer with this certificate. A certificate that cannot be parsed gives no names.
    #[must_use]
    pub fn with_certificate(address: SocketAddr, certificate: &CertificateDer<'_>) -> Self {
        Self {
            names: names(certificate),
            ..Self::anonymous(address)
        }
    }

    /// Its IP address. An IPv4 address that is mapped into IPv6 is returned as IPv4.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

fn names(certificate: &CertificateDer<'_>) -> Vec<PeerName> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let Ok(Some(alternatives)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let of = |name: &GeneralName<'_>| {
        if let GeneralName::URI(uri) = name {
            Some(PeerName::Uri((*uri).to_owned()))
        } else if let GeneralName::DNSName(dns) = name {
            // DNS names are compared case-insensitively (RFC 4343).
            Some(PeerName::Dns(dns.to_ascii_lowercase()))
        } else {
            None
        }
    };
    alternatives.value.general_names.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_only_from_the_alternative_names() {
        let mut params = rcgen::CertificateParams::new(vec!["Gateway.example.org".to_owned()]).unwrap();
        let uri = "spiffe://example.org/gateway".try_into().unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.distinguished_name.push(rcgen::DnType::CommonName, "root of all");
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let address = "[::ffff:192.0.2.1]:1".parse().unwrap();
        let peer = Peer::with_certificate(address, certificate.der());
        let names: Vec<_> = peer.names.iter().map(PeerName::as_str).collect();
        assert_eq!(names, ["gateway.example.org", "spiffe://example.org/gateway"]);
        assert_eq!(peer.ip().to_string(), "192.0.2.1");
        let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        assert_eq!(Peer::with_certificate(address, &garbage).names, []);
    }
}
