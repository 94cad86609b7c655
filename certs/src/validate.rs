//! Decides whether certificates and a key make an authority whose leaves clients accept. Certificates and the
//! time come in; what signing needs to know goes out, or the first requirement that is not met.
//!
//! Signatures inside the chain are not verified: the operator's own file says whom clients are to trust, and
//! a wrong chain fails at the client just the same. What is checked is what fails late and looks like
//! something else.

use std::time::SystemTime;

use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::constraints::Constraints;
use crate::error::AuthorityError;
use crate::leaf::Window;
use crate::moment;

/// What an authority knows about its own certificate.
pub(crate) struct Facts {
    pub(crate) subject: String,
    /// The subject as DER, to name as issuer.
    pub(crate) raw_subject: Vec<u8>,
    /// The subject key identifier, to point at from leaves.
    pub(crate) key_identifier: Vec<u8>,
    /// The time in which every certificate of the chain is valid.
    pub(crate) window: Window,
    /// What each certificate of the chain permits; all must.
    pub(crate) constraints: Vec<Constraints>,
    /// The last certificate is self-signed; clients have it or never will, so it is not sent.
    pub(crate) ends_in_root: bool,
}

pub(crate) fn chain(
    chain: &[CertificateDer<'_>],
    key: &KeyPair,
    now: SystemTime,
) -> Result<Facts, AuthorityError> {
    let certificates = parse(chain)?;
    check_order(&certificates)?;
    let first = certificates.first().ok_or(AuthorityError::NoCertificate)?;
    if first.public_key().subject_public_key.data != key.public_key_raw() {
        return Err(AuthorityError::KeyMismatch {
            subject: first.subject().to_string(),
        });
    }
    for certificate in &certificates {
        check_time(certificate, now)?;
        check_may_sign(certificate)?;
    }
    let key_identifier = key_identifier(first).ok_or_else(|| lacks(first, "the subject key identifier"))?;
    Ok(Facts {
        subject: first.subject().to_string(),
        raw_subject: first.subject().as_raw().to_vec(),
        key_identifier,
        window: window(first),
        constraints: certificates
            .iter()
            .map(|certificate| {
                Constraints::of(certificate)
                    .ok_or_else(|| lacks(certificate, "a readable list of permitted names"))
            })
            .collect::<Result<_, _>>()?,
        ends_in_root: certificates.last().is_some_and(is_root),
    })
}

fn parse<'a>(chain: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, AuthorityError> {
    let read = |(index, der): (usize, &'a CertificateDer<'_>)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(AuthorityError::Unreadable { number: index + 1 }),
    };
    chain.iter().enumerate().map(read).collect()
}

fn check_order(certificates: &[X509Certificate<'_>]) -> Result<(), AuthorityError> {
    for (index, pair) in certificates.windows(2).enumerate() {
        let [child, parent] = pair else { continue };
        if child.issuer().as_raw() != parent.subject().as_raw() {
            return Err(AuthorityError::ChainBroken { number: index + 2 });
        }
    }
    Ok(())
}

fn check_time(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<(), AuthorityError> {
    let subject = || certificate.subject().to_string();
    let Window {
        not_before,
        not_after,
    } = window(certificate);
    if now < not_before {
        return Err(AuthorityError::NotYetValid {
            subject: subject(),
            not_before,
        });
    }
    if now >= not_after {
        return Err(AuthorityError::Expired {
            subject: subject(),
            not_after,
        });
    }
    Ok(())
}

fn check_may_sign(certificate: &X509Certificate<'_>) -> Result<(), AuthorityError> {
    if !certificate.is_ca() {
        return Err(lacks(certificate, "CA:TRUE in the basic constraints"));
    }
    match certificate.key_usage() {
        Ok(Some(usage)) if usage.value.key_cert_sign() => Ok(()),
        _ => Err(lacks(certificate, "keyCertSign in the key usage")),
    }
}

fn key_identifier(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        })
}

fn window(certificate: &X509Certificate<'_>) -> Window {
    let validity = certificate.validity();
    Window {
        not_before: moment::from_unix(validity.not_before.timestamp()),
        not_after: moment::from_unix(validity.not_after.timestamp()),
    }
}

fn is_root(certificate: &X509Certificate<'_>) -> bool {
    certificate.subject().as_raw() == certificate.issuer().as_raw()
}

fn lacks(certificate: &X509Certificate<'_>, missing: &'static str) -> AuthorityError {
    AuthorityError::NotAnAuthority {
        subject: certificate.subject().to_string(),
        missing,
    }
}
