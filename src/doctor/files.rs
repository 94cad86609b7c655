//! The files of the data folder: CA and bundle.

use std::time::Duration;

use super::subject::Subject;
use super::{Finding, tls};
use crate::authority;

/// From when on the end of the CA is worth a word.
const SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The CA can be used, today and for a while.
pub(super) fn ca(subject: &Subject) -> Vec<Finding> {
    let authority = match authority::load(&subject.config, subject.now) {
        Ok(authority) => authority,
        Err(failure) => {
            let cure = "make a new CA with `causeway ca init` (move the old files away first) and have clients trust \
                        it, or set the clock if the dates are wrong";
            return vec![Finding::wrong(failure.to_string(), cure)];
        }
    };
    let left = authority
        .not_after()
        .duration_since(subject.now)
        .unwrap_or_default();
    let days = left.as_secs() / 86_400;
    let path = subject.place.ca.display();
    if left < SOON {
        return vec![Finding::hint(format!("{path} ends in {days} days"))];
    }
    vec![Finding::fine(format!(
        "{path}, valid for {days} days, SHA-256 {}",
        authority.fingerprint()
    ))]
}

/// The bundle holds this CA and the system's roots.
pub(super) fn bundle(subject: &Subject) -> Vec<Finding> {
    let (path, ca) = (&subject.place.bundle, &subject.place.ca);
    let Ok(own) = tls::certificates(ca) else {
        return Vec::new();
    };
    let cure = "start `causeway serve` again, or send it SIGHUP: it writes the bundle anew";
    let shown = path.display();
    match tls::certificates(path) {
        Err(_) => vec![Finding::wrong(format!("{shown} cannot be read"), cure)],
        Ok(found) if !holds(&found, &own) => {
            vec![Finding::wrong(
                format!("{shown} does not hold the CA of {}", ca.display()),
                cure,
            )]
        }
        Ok(found) if found.len() == own.len() => {
            let cure =
                "install the system's roots (the package ca-certificates) and start `causeway serve` again";
            vec![Finding::wrong(
                format!("{shown} holds no other CA than ours"),
                cure,
            )]
        }
        Ok(found) => vec![Finding::fine(format!(
            "{shown} holds {} CAs, ours among them",
            found.len()
        ))],
    }
}

/// Whether `found` has the first certificate of `own`.
pub(super) fn holds<T: PartialEq>(found: &[T], own: &[T]) -> bool {
    own.first().is_some_and(|first| found.contains(first))
}
