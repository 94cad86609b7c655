//! What a leaf certificate says. A name and the issuer's validity come in, the parameters to sign go out.
//!
//! The profile is the one that the strictest client accepts: explicit short validity inside the issuer's, a
//! random serial (two certificates of one issuer with the same serial are fatal in Firefox), the issuer's key
//! identifier (Python 3.13 refuses a chain without it), and no pointers to revocation data that nobody
//! serves.

use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::IssueError;
use crate::moment;
use crate::name::LeafName;

/// A certificate for one host, with the key that it names.
#[derive(Debug)]
pub struct Leaf {
    /// The leaf first, then the intermediates up to, and without, the self-signed root.
    pub chain: Vec<CertificateDer<'static>>,
    /// A key of this leaf alone.
    pub key: PrivateKeyDer<'static>,
    /// The last second of the leaf's validity.
    pub not_after: SystemTime,
    /// When to ask for a new one: half of the time that was left when this one was made.
    pub renew_at: SystemTime,
}

/// The time in which a certificate may be used, both ends included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Window {
    /// The window of a leaf made `now` by an issuer that is itself valid in `issuer`.
    pub(crate) fn of_leaf(now: SystemTime, issuer: Self) -> Self {
        let start = now.checked_sub(BACKDATE).unwrap_or(issuer.not_before);
        let end = now.checked_add(LIFETIME - BACKDATE).unwrap_or(issuer.not_after);
        Self {
            not_before: start.max(issuer.not_before),
            not_after: end.min(issuer.not_after),
        }
    }

    /// Half way from `now` to the end.
    pub(crate) fn renew_at(self, now: SystemTime) -> SystemTime {
        let left = self.not_after.duration_since(now).unwrap_or_default();
        now.checked_add(left / 2).unwrap_or(now)
    }
}

/// The unsigned content of a leaf for `name`.
pub(crate) fn profile(name: &LeafName, window: Window) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.not_before = moment::to_date(window.not_before);
    params.not_after = moment::to_date(window.not_after);
    params.serial_number = Some(serial()?);
    params.distinguished_name = subject(name);
    params.subject_alt_names = vec![alternative_name(name)?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Sixteen random bytes, of which the first is between 0x40 and 0x7f: positive, and always of the same
/// length.
pub(crate) fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| IssueError::Randomness)?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    Ok(SerialNumber::from_slice(&bytes))
}

fn alternative_name(name: &LeafName) -> Result<SanType, IssueError> {
    match name {
        LeafName::Ip(address) => Ok(SanType::IpAddress(*address)),
        LeafName::Dns(dns) => {
            let text = dns
                .as_str()
                .try_into()
                .map_err(|source| IssueError::Encoding { source })?;
            Ok(SanType::DnsName(text))
        }
    }
}

/// A common name for people who look at the certificate; empty if it would not fit, and rcgen then marks the
/// alternative name as critical, as RFC 5280 section 4.1.2.6 asks.
fn subject(name: &LeafName) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    let text = name.to_string();
    if text.len() <= MAX_COMMON_NAME {
        subject.push(DnType::CommonName, text);
    }
    subject
}

/// `ub-common-name` of RFC 5280.
pub(crate) const MAX_COMMON_NAME: usize = 64;
/// From the backdated start to the end: far inside every client's cap (Apple: 825 days, even for private
/// authorities).
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Clients' clocks are wrong by hours more often than by minutes: time zones.
const BACKDATE: Duration = Duration::from_secs(24 * 60 * 60);
