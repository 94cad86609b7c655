//! Trust bundles: the system's roots and our CA in one PEM file.
//!
//! Some clients' variables (`SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` …) replace their trust store; given our CA
//! alone, they would trust no other host any more.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
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

/// A file in `folder` that holds what `base` holds and `more` beside it: `base` itself, if that holds all of it.
pub(crate) fn extended(folder: &Path, base: &Path, more: &str) -> std::io::Result<PathBuf> {
    let mut text = std::fs::read_to_string(base)?;
    let missing: Vec<_> = certificates(more)
        .into_iter()
        .filter(|one| !text.contains(one))
        .collect();
    if missing.is_empty() {
        return Ok(base.to_owned());
    }
    for certificate in missing {
        let _ = writeln!(text, "{certificate}");
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    // Named by what it holds, so that the next run finds it and none is changed under a client.
    let path = folder.join(format!("ca-bundle-{:016x}.pem", hasher.finish()));
    if !path.exists() {
        let draft = path.with_extension(format!("{}", std::process::id()));
        std::fs::write(&draft, text)?;
        std::fs::rename(&draft, &path)?;
    }
    Ok(path)
}

/// The PEM blocks of a text.
fn certificates(text: &str) -> Vec<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN CERTIFICATE-----") {
        let (_, from) = rest.split_at(begin);
        let Some(end) = from.find(END) else { break };
        let (block, after) = from.split_at(end + END.len());
        found.push(block);
        rest = after;
    }
    found
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
