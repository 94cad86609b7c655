//! The environment that a client gets.
//!
//! What the user has set is kept where it can be: exceptions from the proxy are added to, and CAs that a variable
//! names already are trusted beside ours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::bundle;
use crate::clients::place::{NO_PROXY, Place, TOKEN};
use crate::clients::trust;
use crate::env::settings;
use crate::failure::Failure;

/// The variables for a client of the gateway at `place`, over those that `own` knows.
pub(super) fn of(
    place: &Place,
    own: impl Fn(&str) -> Option<OsString>,
) -> Result<Vec<(&'static str, OsString)>, Failure> {
    let token = std::fs::read_to_string(&place.token)
        .map_err(|error| Failure::because(&format!("{} cannot be read", place.token.display()), error))?;
    let exceptions = exceptions([own("NO_PROXY"), own("no_proxy")].into_iter().flatten());
    let mut variables = Vec::new();
    for (name, value) in settings::everything(place) {
        let value = match name {
            "NO_PROXY" | "no_proxy" => OsString::from(&exceptions),
            _ if trust::kind(name).is_some() => trusting(place, Path::new(&value), own(name))?,
            _ => OsString::from(value.replace(TOKEN, token.trim())),
        };
        variables.push((name, value));
    }
    Ok(variables)
}

/// A value for the terminal: no token.
pub(super) fn shown(value: &OsString) -> String {
    let text = value.to_string_lossy();
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            let (before, after) = (text.get(..scheme + 3), text.get(at..));
            format!("{}…{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        _ => text.into_owned(),
    }
}

/// The user's exceptions and ours, each once.
fn exceptions(own: impl Iterator<Item = OsString>) -> String {
    let mut all: Vec<String> = Vec::new();
    let own: Vec<_> = own.map(|list| list.to_string_lossy().into_owned()).collect();
    for list in own.iter().map(String::as_str).chain([NO_PROXY]) {
        for one in list
            .split([',', ' '])
            .map(str::trim)
            .filter(|one| !one.is_empty())
        {
            if !all.iter().any(|known| known == one) {
                all.push(one.to_owned());
            }
        }
    }
    all.join(",")
}

/// `file`, or one with what the user's own file trusts beside it.
fn trusting(place: &Place, file: &Path, own: Option<OsString>) -> Result<OsString, Failure> {
    let own = own.filter(|own| !own.is_empty()).map(PathBuf::from);
    // A file that cannot be read adds no trust now either.
    let Some(text) = own.and_then(|own| std::fs::read_to_string(own).ok()) else {
        return Ok(file.into());
    };
    bundle::extended(&place.data_dir, file, &text)
        .map(OsString::from)
        .map_err(|error| Failure::because("the trust bundle cannot be written", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "-----BEGIN CERTIFICATE-----\nb3du\n-----END CERTIFICATE-----\n";

    fn place(folder: &Path) -> Place {
        let path = |name: &str| folder.join(name);
        std::fs::write(path("token"), "cw_1\n").unwrap();
        std::fs::write(path("ca.pem"), "our CA\n").unwrap();
        std::fs::write(path("bundle.pem"), format!("our CA\nroots\n{OWN}")).unwrap();
        Place {
            proxy: ("127.0.0.1".to_owned(), 1),
            bridge: "127.0.0.1:2".to_owned(),
            ca: path("ca.pem"),
            bundle: path("bundle.pem"),
            data_dir: folder.to_owned(),
            token: path("token"),
        }
    }

    #[test]
    fn what_the_user_has_set_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let corporate = folder.path().join("corporate.pem");
        std::fs::write(&corporate, OWN).unwrap();
        let own = |name: &str| match name {
            "no_proxy" => Some(OsString::from("intra.corp, localhost")),
            "NODE_EXTRA_CA_CERTS" | "SSL_CERT_FILE" => Some(corporate.clone().into()),
            "PIP_CERT" => Some(OsString::from("/nowhere")),
            _ => None,
        };
        let place = place(folder.path());
        let variables = of(&place, own).unwrap();
        let value = |name: &str| variables.iter().find(|(one, _)| *one == name).unwrap().1.clone();
        assert_eq!(value("HTTPS_PROXY"), "http://x:cw_1@127.0.0.1:1");
        assert_eq!(value("NO_PROXY"), "intra.corp,localhost,127.0.0.1,::1");
        assert_eq!(value("no_proxy"), value("NO_PROXY"));
        assert_eq!(value("CURL_CA_BUNDLE"), place.bundle);
        assert_eq!(value("PIP_CERT"), place.bundle);
        assert_eq!(value("SSL_CERT_FILE"), place.bundle, "the roots hold it already");
        let both = std::fs::read_to_string(value("NODE_EXTRA_CA_CERTS")).unwrap();
        assert_eq!(both, format!("our CA\n{OWN}"));
    }

    #[test]
    fn a_token_is_not_shown() {
        for (value, want) in [
            ("http://x:cw_1@127.0.0.1:1", "http://…@127.0.0.1:1"),
            ("/a/b@c.pem", "/a/b@c.pem"),
            ("1", "1"),
        ] {
            assert_eq!(shown(&OsString::from(value)), want);
        }
    }
}
