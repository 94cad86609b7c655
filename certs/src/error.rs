//! Why there is no authority, and why an authority did not sign. The fields are facts for the caller to act
//! on; each message speaks of its own level and leaves the cause to `source()`. None of them ever quotes key
//! material.

use std::time::SystemTime;

use thiserror::Error;

use crate::moment::Shown;
use crate::name::NameError;

/// Why there is no authority.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The cryptographic library refused to make or sign.
    #[error("cannot make a certificate authority")]
    Generation {
        /// What the library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The certificate text has no `BEGIN CERTIFICATE` section.
    #[error("no certificate in the text (expected a PEM section CERTIFICATE)")]
    NoCertificate,
    /// A certificate section does not hold a certificate.
    #[error("certificate number {number} in the text cannot be read")]
    Unreadable {
        /// Its place in the text, from 1.
        number: usize,
    },
    /// The key text has no key that can sign.
    #[error("no usable private key in the text (expected unencrypted PEM: PKCS #8, SEC 1 or PKCS #1)")]
    NoKey,
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate of {subject}")]
    KeyMismatch {
        /// Whose certificate it is.
        subject: String,
    },
    /// The certificate may not sign others.
    #[error("{subject} is not a certificate authority: {missing} is missing")]
    NotAnAuthority {
        /// Whose certificate it is.
        subject: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// The certificate's time is over.
    #[error("the certificate of {subject} expired at {}", Shown(*not_after))]
    Expired {
        /// Whose certificate it is.
        subject: String,
        /// Its last second.
        not_after: SystemTime,
    },
    /// The certificate's time has not begun.
    #[error("the certificate of {subject} is not valid before {}", Shown(*not_before))]
    NotYetValid {
        /// Whose certificate it is.
        subject: String,
        /// Its first second.
        not_before: SystemTime,
    },
    /// A certificate of the chain is not the issuer of the one before it.
    #[error("certificate number {number} in the text is not the issuer of the one before it")]
    ChainBroken {
        /// Its place in the text, from 1.
        number: usize,
    },
}

/// Why a leaf was not signed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The name is one that the gateway never signs for.
    #[error("no certificate is issued for this name")]
    NameRefused {
        /// What is wrong with it.
        source: NameError,
    },
    /// The authority's name constraints do not permit the name.
    #[error("the certificate authority may not sign for {name}: its name constraints exclude it")]
    NotPermitted {
        /// The name.
        name: String,
    },
    /// The authority's own validity does not include this moment.
    #[error("the certificate authority is valid from {} to {}", Shown(*not_before), Shown(*not_after))]
    OutsideValidity {
        /// The authority's first second.
        not_before: SystemTime,
        /// The authority's last second.
        not_after: SystemTime,
    },
    /// The system's random generator failed.
    #[error("no random numbers")]
    Randomness,
    /// The certificate could not be made.
    #[error("cannot make the certificate")]
    Encoding {
        /// What the library said.
        source: rcgen::Error,
    },
    /// The library's certificate did not have the expected shape.
    #[error("the certificate draft is malformed")]
    Malformed,
}
