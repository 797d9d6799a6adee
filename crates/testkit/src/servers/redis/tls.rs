//! Certificates for servers: a CA of the test's own, and what it signed.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

use crate::servers::leavings;

/// A CA, and a certificate of it, in a directory that lives as long as this.
#[derive(Debug)]
pub struct RedisCertificates {
    dir: TempDir,
}

impl RedisCertificates {
    /// Makes both anew, for `localhost` and 127.0.0.1.
    pub fn new() -> Self {
        Self::naming(vec![
            SanType::DnsName("localhost".try_into().expect("it is a name")),
            SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        ])
    }

    /// Makes both anew, for another server than those of the tests.
    pub fn of_another_server() -> Self {
        Self::naming(vec![SanType::DnsName("redis.example".try_into().expect("it is a name"))])
    }

    fn naming(names: Vec<SanType>) -> Self {
        let dir = tempfile::Builder::new().prefix("testkit-tls-").tempdir().expect("a temporary directory can be made");
        leavings::remove_at_exit(dir.path());
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, "testkit CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().expect("a key can be made");
        let ca_certificate = ca.self_signed(&ca_key).expect("a CA signs itself");
        let issuer = Issuer::new(ca, ca_key);

        let mut server = CertificateParams::default();
        server.distinguished_name.push(DnType::CommonName, "testkit redis");
        server.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = server.signed_by(&key, &issuer).expect("the CA signs");
        for (name, text) in
            [("ca.pem", ca_certificate.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), text).expect("the directory can be written");
        }
        Self { dir }
    }

    /// The certificate of the CA, in PEM.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The certificate of servers.
    pub(super) fn certificate(&self) -> PathBuf {
        self.file("server.pem")
    }

    /// The key that belongs to it.
    pub(super) fn key(&self) -> PathBuf {
        self.file("server.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::join(self.dir.path(), name)
    }
}

impl Default for RedisCertificates {
    fn default() -> Self {
        Self::new()
    }
}
