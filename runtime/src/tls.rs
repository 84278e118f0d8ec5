//! TLS towards servers: one provider a process, the web's roots plus a configured one.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Installs the process' one cryptography provider. Call first thing in `main`; later calls change nothing.
pub fn install_provider() {
    // An error only says that it is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Configuration of a client that trusts the web's roots.
pub fn client_config() -> Arc<ClientConfig> {
    install_provider();
    let mut roots = RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}
