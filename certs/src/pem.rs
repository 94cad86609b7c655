//! Writes certificates as PEM. There is no writer for keys here, so text made by this module is public by
//! construction.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

/// The column at which RFC 7468 wraps.
const LINE: usize = 64;

pub(crate) fn certificates(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|one| certificate(one)).collect()
}

fn certificate(der: &[u8]) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let body = STANDARD.encode(der);
    let mut rest = body.as_str();
    while let Some((line, after)) = rest.split_at_checked(LINE) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn reads_back_what_it_wrote() {
        for size in [1, 47, 48, 49, 96, 700] {
            let chain = [
                CertificateDer::from(vec![7; size]),
                CertificateDer::from(vec![9; size]),
            ];
            let text = certificates(&chain);
            assert!(text.lines().all(|line| line.len() <= LINE), "{size}");
            let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
                .map(Result::unwrap)
                .collect();
            assert_eq!(read, chain, "{size}");
        }
    }
}
