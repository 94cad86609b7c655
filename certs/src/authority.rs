//! The certificate authority in memory. PEM text comes in, signed leaves go out.
//!
//! The private key has no way out of [`Authority`]: what can be printed or served is re-encoded from the
//! certificates, so even a key that stood in the same file as its certificate stays here.
//! [`files`](crate::files) keeps an authority on disk; [`leaf`](crate::leaf) says what it signs.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::constraints;
use crate::der::Unsigned;
use crate::error::{AuthorityError, IssueError};
use crate::leaf::{self, Leaf, MAX_COMMON_NAME, Window};
use crate::moment;
use crate::name::LeafName;
use crate::pem;
use crate::validate::{self, Facts};

/// A certificate authority that can sign.
pub struct Authority {
    key: Zeroizing<KeyPair>,
    certificate: CertificateDer<'static>,
    /// What clients are sent after a leaf: the chain without its root, so nothing at all if the authority is
    /// one.
    sent: Vec<CertificateDer<'static>>,
    pem: String,
    facts: Facts,
}

/// What a new authority is to be.
#[derive(Clone, Copy, Debug)]
pub struct CaProfile<'a> {
    /// Names the installation, such as `Causeway CA on build-7`; a part of the key's fingerprint is appended, so
    /// that two authorities made on one host are told apart in a trust store.
    pub common_name: &'a str,
    /// The only names that it may ever sign for (RFC 5280 name constraints); clients must trust a new authority
    /// when they change. `None` leaves it free.
    pub only: Option<&'a [LeafName]>,
}

/// A self-signed authority that was just made, as the text to keep.
pub struct NewAuthority {
    /// The certificate, for clients to trust.
    pub cert_pem: String,
    /// The private key; wiped from memory when dropped.
    pub key_pem: Zeroizing<String>,
}

impl Authority {
    /// Makes a self-signed authority, valid for ten years.
    ///
    /// # Errors
    /// [`AuthorityError::Generation`] if the cryptographic library fails.
    pub fn generate(profile: &CaProfile<'_>, now: SystemTime) -> Result<NewAuthority, AuthorityError> {
        let key = KeyPair::generate().map(Zeroizing::new).map_err(generation)?;
        let mut params = CertificateParams::default();
        params.not_before = moment::to_date(now.checked_sub(AUTHORITY_BACKDATE).unwrap_or(now));
        params.not_after = moment::to_date(now.checked_add(AUTHORITY_LIFETIME).unwrap_or(now));
        params.serial_number = Some(leaf::serial().map_err(generation)?);
        params.distinguished_name = authority_subject(profile.common_name, &key);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.name_constraints = profile.only.map(constraints::only);
        let certificate = params.self_signed(&*key).map_err(generation)?;

        let cert_pem = pem::certificates(std::slice::from_ref(certificate.der()));
        Ok(NewAuthority {
            cert_pem,
            key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Reads an authority, and refuses one whose leaves clients would refuse.
    ///
    /// The first certificate signs; those that follow are its issuers in order. Clients are sent all but a
    /// self-signed root. Other sections in `cert_pem`, such as a key, are ignored.
    ///
    /// # Errors
    /// [`AuthorityError`] says which requirement is not met.
    pub fn from_pem(cert_pem: &str, key_pem: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let chain = read_chain(cert_pem)?;
        let key = read_key(key_pem)?;
        let facts = validate::chain(&chain, &key, now)?;
        let pem = pem::certificates(&chain);
        let certificate = chain.first().ok_or(AuthorityError::NoCertificate)?.clone();
        let mut sent = chain;
        if facts.ends_in_root {
            sent.pop();
        }
        Ok(Self {
            key,
            certificate,
            sent,
            pem,
            facts,
        })
    }

    /// The certificates that were given, as PEM: the issuing one first. Never a key.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// The issuing certificate.
    pub fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    /// The issuing certificate's subject, as people write it.
    pub fn subject(&self) -> &str {
        &self.facts.subject
    }

    /// The SHA-256 of the issuing certificate, as `AB:CD:…`.
    pub fn fingerprint(&self) -> String {
        let digest = digest::digest(&digest::SHA256, &self.certificate);
        let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// The issuing certificate's first second.
    pub fn not_before(&self) -> SystemTime {
        self.facts.window.not_before
    }

    /// The issuing certificate's last second.
    pub fn not_after(&self) -> SystemTime {
        self.facts.window.not_after
    }

    /// Whether the chain's name constraints let it sign for `name`.
    pub fn permits(&self, name: &LeafName) -> bool {
        self.facts
            .constraints
            .iter()
            .all(|constraints| constraints.permit(name))
    }

    /// Signs a new certificate, with a new key, for `name`.
    ///
    /// # Errors
    /// [`IssueError::NameRefused`] for a name that [`LeafName::parse`] would not have made, and
    /// [`IssueError::OutsideValidity`] once the authority itself has expired.
    pub fn issue(&self, name: &LeafName, now: SystemTime) -> Result<Leaf, IssueError> {
        name.check()
            .map_err(|source| IssueError::NameRefused { source })?;
        if !self.permits(name) {
            return Err(IssueError::NotPermitted {
                name: name.to_string(),
            });
        }
        let Window {
            not_before,
            not_after,
        } = self.facts.window;
        if now < not_before || now >= not_after {
            return Err(IssueError::OutsideValidity {
                not_before,
                not_after,
            });
        }
        let window = Window::of_leaf(now, self.facts.window);
        let key = KeyPair::generate().map(Zeroizing::new).map_err(encoding)?;
        let draft = leaf::profile(name, window)?
            .signed_by(&*key, &self.nameless_issuer())
            .map_err(encoding)?;
        let unsigned =
            Unsigned::with_issuer(draft.der(), &self.facts.raw_subject).map_err(|_| IssueError::Malformed)?;
        let signature = self.key.sign(unsigned.signed_part()).map_err(encoding)?;

        let mut chain = vec![CertificateDer::from(unsigned.finish(&signature))];
        chain.extend(self.sent.iter().cloned());
        Ok(Leaf {
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            not_after: window.not_after,
            renew_at: window.renew_at(now),
        })
    }

    /// An issuer for drafts: the right algorithm and key identifier, no name, no signature (see
    /// [`crate::der`]).
    fn nameless_issuer(&self) -> Issuer<'static, NoSignature> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.key_identifier_method = KeyIdMethod::PreSpecified(self.facts.key_identifier.clone());
        Issuer::new(params, NoSignature(self.key.algorithm()))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("subject", &self.subject())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for NewAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAuthority")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}

/// Stands in for the authority's key while a draft is written.
struct NoSignature(&'static SignatureAlgorithm);

impl PublicKeyData for NoSignature {
    fn der_bytes(&self) -> &[u8] {
        &[]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0
    }
}

impl SigningKey for NoSignature {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let sections = CertificateDer::pem_slice_iter(text.as_bytes()).enumerate();
    let chain: Vec<_> = sections
        .map(|(index, section)| section.map_err(|_| AuthorityError::Unreadable { number: index + 1 }))
        .collect::<Result<_, _>>()?;
    if chain.is_empty() {
        Err(AuthorityError::NoCertificate)
    } else {
        Ok(chain)
    }
}

/// The parsers' own messages are dropped on purpose: they could quote the key.
fn read_key(text: &str) -> Result<Zeroizing<KeyPair>, AuthorityError> {
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| AuthorityError::NoKey)?;
    let der = Zeroizing::new(der);
    KeyPair::try_from(&*der)
        .map(Zeroizing::new)
        .map_err(|_| AuthorityError::NoKey)
}

fn authority_subject(common_name: &str, key: &KeyPair) -> DistinguishedName {
    let digest = digest::digest(&digest::SHA256, key.public_key_raw());
    let tail: String = digest
        .as_ref()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let room = MAX_COMMON_NAME - tail.len() - 1;
    let name: String = common_name
        .chars()
        .filter(|one| !one.is_control())
        .take(room)
        .collect();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Causeway");
    subject.push(DnType::CommonName, format!("{} {tail}", name.trim()).trim_start());
    subject
}

fn generation(source: impl std::error::Error + Send + Sync + 'static) -> AuthorityError {
    AuthorityError::Generation {
        source: Box::new(source),
    }
}

fn encoding(source: rcgen::Error) -> IssueError {
    IssueError::Encoding { source }
}

const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);
const AUTHORITY_BACKDATE: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests;
