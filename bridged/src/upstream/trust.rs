//! Which certificates upstreams may show: the system's roots and the operator's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Why the roots cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file of `upstream.extra-ca` is not PEM certificates.
    #[error("{} holds no PEM certificate that can be trusted", path.display())]
    File {
        /// The file.
        path: PathBuf,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// The TLS settings towards upstreams. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Offers HTTP/2 and HTTP/1.1.
    pub(super) tls: Arc<ClientConfig>,
    /// Offers HTTP/1.1 only, for WebSockets.
    pub(super) tls_http1: Arc<ClientConfig>,
    /// The SHA-256 of the files in `extra`.
    extra: [u8; 32],
}

impl Trust {
    /// The TLS settings towards a database server.
    pub(crate) fn for_database(&self) -> ClientConfig {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![b"postgresql".to_vec()];
        tls
    }

    /// Loads the system's roots and the certificates in `extra`.
    ///
    /// # Errors
    /// A file holds no certificate, or TLS cannot be set up.
    pub fn load(extra: &[PathBuf]) -> Result<Trust, TrustError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "a system certificate cannot be read"
            );
        }
        roots.add_parsable_certificates(system.certs);
        let mut files = digest::Context::new(&digest::SHA256);
        for path in extra {
            add_file(&mut roots, path)?;
            files.update(&std::fs::read(path).unwrap_or_default());
        }
        if roots.is_empty() {
            tracing::warn!("no root certificate found: install ca-certificates or set upstream.extra-ca");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut tls_http1 = tls.clone();
        tls_http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Trust {
            tls: Arc::new(tls),
            tls_http1: Arc::new(tls_http1),
            extra: files.finish().as_ref().try_into().unwrap_or_default(),
        })
    }

    /// Whether the operator's own certificates are the same.
    pub(crate) fn is_same(&self, other: &Trust) -> bool {
        self.extra == other.extra
    }
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TrustError> {
    let failed = || TrustError::File {
        path: path.to_owned(),
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|_| failed())?;
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(failed()) } else { Ok(()) }
}
