//! The sink over TLS, with a certificate of the benchmark's own.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::{Failure, Outcome};

/// The certificate that clients have to trust.
pub(crate) const CA_FILE: &str = "ca.pem";
const CERTIFICATE_FILE: &str = "server.pem";
const KEY_FILE: &str = "server.key";

/// Makes a CA and a certificate for `localhost` in a directory.
pub(crate) fn certificates(dir: &Path) -> Outcome<()> {
    let failed = |error: rcgen::Error| Failure(format!("cannot make a certificate: {error}"));
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "bench CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().map_err(failed)?;
    let ca_certificate = ca.self_signed(&ca_key).map_err(failed)?;
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().map_err(failed)?;
    let mut server = CertificateParams::new(["localhost".to_owned()]).map_err(failed)?;
    server.distinguished_name.push(DnType::CommonName, "bench sink"); // of the CA's name it would be its own issuer
    let certificate = server.signed_by(&key, &issuer).map_err(failed)?;
    for (name, text) in
        [(CA_FILE, ca_certificate.pem()), (CERTIFICATE_FILE, certificate.pem()), (KEY_FILE, key.serialize_pem())]
    {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| Failure::of("write", &path, &error))?;
    }
    Ok(())
}

pub(super) fn server_config(dir: &Path) -> Outcome<Arc<ServerConfig>> {
    let unreadable =
        |error: rustls::pki_types::pem::Error| Failure(format!("certificate in {}: {error}", dir.display()));
    let certificate = CertificateDer::from_pem_file(dir.join(CERTIFICATE_FILE)).map_err(unreadable)?;
    let key = PrivateKeyDer::from_pem_file(dir.join(KEY_FILE)).map_err(unreadable)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: rustls::Error| Failure(format!("TLS cannot be set up: {error}"));
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    let mut config = config.with_no_client_auth().with_single_cert(vec![certificate], key).map_err(failed)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(super) fn accepted(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
) -> Outcome<Box<StreamOwned<ServerConnection, TcpStream>>> {
    let connection = ServerConnection::new(Arc::clone(config));
    let connection = connection.map_err(|error| Failure(format!("TLS cannot begin: {error}")))?;
    Ok(Box::new(StreamOwned::new(connection, tcp)))
}
