//! Who is at the other end of a connection.

use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A name in a verified client certificate (RFC 5280 §4.2.1.6) that can be mapped to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// For instance a SPIFFE id, `spiffe://example.org/gateway`.
    Uri(String),
    /// A DNS name.
    Dns(String),
}

impl PeerName {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Uri(name) | Self::Dns(name) => name,
        }
    }
}

/// The other end of a connection. Made once, shared by all its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// The URI and DNS names of its certificate, which the TLS handshake verified; empty without one.
    pub names: Vec<PeerName>,
}

impl Peer {
    /// A peer that showed no certificate.
    #[must_use]
    pub fn anonymous(address: SocketAddr) -> Self {
        Self {
            address,
            names: Vec::new(),
        }
    }

    /// A process of this machine that came through a socket file: it counts as loopback.
    #[must_use]
    pub fn local() -> Self {
        Self::anonymous(SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)))
    }

    /// A peer that showed this certificate. One that cannot be read has no names.
    #[must_use]
    pub fn with_certificate(address: SocketAddr, certificate: &CertificateDer<'_>) -> Self {
        Self {
            address,
            names: names(certificate),
        }
    }

    /// Its IP address; one of IPv4 that was mapped into IPv6 as the former.
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
            // DNS names compare without regard to case (RFC 4343).
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
    fn names_are_read_from_the_alternative_names_alone() {
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
