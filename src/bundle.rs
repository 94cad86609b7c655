//! Trust bundles: the system's roots and our CA in one PEM file.
//!
//! Some clients' variables (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` …) replace their trust store; given our CA
//! alone, they would trust no other host any more.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine;

/// The bundle's name in the data folder.
pub(crate) const NAME: &str = "ca-bundle.pem";

/// Writes the bundle into `folder`, whole or not at all.
pub(crate) fn write(folder: &Path, ca_pem: &str) -> std::io::Result<PathBuf> {
    let mut text = ca_pem.to_owned();
    for certificate in rustls_native_certs::load_native_certs().certs {
        push_pem(&mut text, &certificate);
    }
    let path = folder.join(NAME);
    let draft = folder.join(format!(".{NAME}.{}", std::process::id()));
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, &path)?;
    Ok(path)
}

fn push_pem(text: &mut String, der: &[u8]) {
    let encoded = base64::engine::general_purpose::STANDARD.encode(der);
    text.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
        rest = after;
    }
    text.push_str("-----END CERTIFICATE-----\n");
}
