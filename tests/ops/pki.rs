//! A certificate authority, its certificates, and the ways in which files are put where the server reads them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
    SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

pub(crate) struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { ca }
    }

    /// The certificate of the authority, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.ca.pem()
    }

    /// A certificate of a server on this machine, with this serial number.
    pub(crate) fn server(&self, serial: u64) -> Pair {
        self.signed(serial, |params| {
            params.subject_alt_names = vec![
                SanType::DnsName("localhost".try_into().unwrap()),
                SanType::IpAddress("127.0.0.1".parse().unwrap()),
            ];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// An expired certificate of a server.
    pub(crate) fn expired(&self, serial: u64) -> Pair {
        self.signed(serial, |params| {
            params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        })
    }

    /// A certificate of a client with this name.
    pub(crate) fn client(&self, uri: &str) -> Pair {
        self.signed(7, |params| {
            params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    fn signed(&self, serial: u64, set: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        // A name that is not the authority's: OpenSSL would take the certificate for self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, format!("certificate {serial}"));
        set(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        Pair {
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The configuration of a client that trusts only this authority.
    pub(crate) fn trusting(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    /// The serial number of the certificate that the server at `address` presents.
    pub(crate) async fn serial(&self, address: std::net::SocketAddr) -> Option<u64> {
        let mut config = (*self.trusting()).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.ok()?;
        let (_, session) = stream.get_ref();
        let own = session.peer_certificates()?.first()?.clone();
        let (_, own) = X509Certificate::from_der(&own).ok()?;
        own.serial.to_string().parse().ok()
    }
}

/// How the files are stored and replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Plain files, replaced by renaming new files over them.
    Files,
    /// As Kubernetes mounts a secret: links through a link to a folder, replaced by renaming the link to a new folder.
    Kubernetes,
}

/// The folder from which the server reads its certificate.
pub(crate) struct Folder {
    path: PathBuf,
    layout: Layout,
    version: u32,
}

impl Folder {
    pub(crate) fn new(path: &Path, layout: Layout) -> Self {
        let path = path.join("tls");
        std::fs::create_dir_all(&path).unwrap();
        Self {
            path,
            layout,
            version: 0,
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Puts these files into the folder and keeps the others. A concurrent reader sees each file either old or new.
    pub(crate) fn put(&mut self, files: &[(&str, &str)]) {
        match self.layout {
            Layout::Files => {
                for (name, text) in files {
                    let draft = self.file(&format!("{name}.new"));
                    std::fs::write(&draft, text).unwrap();
                    std::fs::rename(draft, self.file(name)).unwrap();
                }
            }
            Layout::Kubernetes => {
                self.version += 1;
                let (folder, link) = (format!("..version{}", self.version), self.file("..data"));
                std::fs::create_dir(self.file(&folder)).unwrap();
                for (name, text) in files {
                    std::fs::write(self.file(&folder).join(name), text).unwrap();
                }
                for entry in std::fs::read_dir(&link).into_iter().flatten().flatten() {
                    let to = self.file(&folder).join(entry.file_name());
                    if !to.exists() {
                        std::fs::copy(entry.path(), to).unwrap();
                    }
                }
                let draft = self.file("..data_tmp");
                std::os::unix::fs::symlink(&folder, &draft).unwrap();
                std::fs::rename(draft, &link).unwrap();
                for (name, _) in files {
                    if std::fs::symlink_metadata(self.file(name)).is_err() {
                        std::os::unix::fs::symlink(Path::new("..data").join(name), self.file(name)).unwrap();
                    }
                }
            }
        }
    }
}
