//! TLS towards servers: one provider a process; whom to trust is the web's roots, or a file of certificates alone.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// What is said where a server's certificate isn't trusted.
pub const UNTRUSTED: &str = ": its certificate doesn't belong to that name, has run out, or comes from a CA that isn't \
                             trusted; postgres.ca_file names a private one";

/// Why a file of certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// It can't be read as PEM.
    #[error("it isn't readable as PEM")]
    Pem(#[source] pem::Error),
    /// A certificate in it is broken.
    #[error("a certificate in it is broken")]
    Certificate(#[source] rustls::Error),
    /// It has none.
    #[error("it holds no certificate")]
    Empty,
    /// The system's own certificates aren't to be had.
    #[error("the system has no certificates to trust: install ca-certificates, or name a file")]
    NoSystem,
}

/// Installs the process' one cryptography provider. Call first thing in `main`; later calls change nothing.
pub fn install_provider() {
    // An error only says that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Configuration of a client that trusts the web's roots.
pub fn client_config() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    trusting(roots)
}

/// Configuration of a client that trusts the certificates of a file and no others.
pub fn client_config_with(ca_file: &Path) -> Result<Arc<ClientConfig>, CaError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).map_err(CaError::Pem)? {
        roots.add(certificate.map_err(CaError::Pem)?).map_err(CaError::Certificate)?;
    }
    if roots.is_empty() {
        return Err(CaError::Empty);
    }
    Ok(trusting(roots))
}

/// Configuration of a client that trusts what the system trusts.
pub fn client_config_of_the_system() -> Result<Arc<ClientConfig>, CaError> {
    let mut roots = RootCertStore::empty();
    // Some systems carry certificates that are broken; the others are good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(CaError::NoSystem);
    }
    Ok(trusting(roots))
}

fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    install_provider();
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Whether a handshake failed because the server's certificate isn't trusted: trying again doesn't help.
pub fn is_certificate_error(error: &(dyn Error + 'static)) -> bool {
    let mut error = error;
    loop {
        if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return true;
        }
        // An I/O error hides what it wraps: its source is the source of that.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        match wrapped.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source()) {
            Some(cause) => error = cause,
            None => return false,
        }
    }
}
