//! What is planted, and every form in which it could turn up where it must not.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A secret of the test's own.
#[derive(Clone)]
pub(super) struct Planted {
    pub(super) name: &'static str,
    text: String,
    forms: Vec<Vec<u8>>,
}

impl Planted {
    pub(super) fn new(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        assert!(text.len() >= 12, "{name} is long enough to be no accident");
        let forms = forms(&text);
        Self { name, text, forms }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is in `bytes`, in whatever form.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms
            .iter()
            .any(|form| memchr::memmem::find(bytes, form).is_some())
    }
}

fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let percent = |upper: bool, all: bool| -> String {
        let code = |byte: &u8| match (all || !byte.is_ascii_alphanumeric(), upper) {
            (false, _) => char::from(*byte).to_string(),
            (true, true) => format!("%{byte:02X}"),
            (true, false) => format!("%{byte:02x}"),
        };
        bytes.iter().map(code).collect()
    };
    let hex = |upper: bool| -> String {
        let pair = |byte: &u8| {
            if upper {
                format!("{byte:02X}")
            } else {
                format!("{byte:02x}")
            }
        };
        bytes.iter().map(pair).collect()
    };
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = vec![
        secret.to_owned(),
        percent(true, false),
        percent(false, false),
        percent(true, true),
        percent(false, true),
        hex(true),
        hex(false),
        // Bytes as `Debug` shows them.
        numbers.join(", "),
        numbers.join(","),
        serde_json::to_string(secret)
            .unwrap()
            .trim_matches('"')
            .to_owned(),
    ];
    // In base64 it looks different at each of three places in a text; what its neighbours decide is cut off.
    for before in 0..3 {
        let mut padded = vec![0; before];
        padded.extend(bytes);
        for encoded in [STANDARD_NO_PAD.encode(&padded), URL_SAFE_NO_PAD.encode(&padded)] {
            let first = if before == 0 { 0 } else { before + 1 };
            let last = encoded.len() - usize::from(padded.len() % 3 != 0);
            forms.push(encoded[first..last].to_owned());
        }
    }
    forms.into_iter().map(String::into_bytes).collect()
}

#[test]
fn a_secret_is_found_in_every_form_and_in_no_other_text() {
    let secret = Planted::new("password", "pa$$-word/3.14159");
    for text in [
        "http://user:pa$$-word/3.14159@proxy",
        "user:pa%24%24%2Dword%2F3%2E14159@",
        "pa%24%24%2dword%2f3%2e14159",
        "7061242D",
    ] {
        let want = text != "7061242D";
        assert_eq!(secret.is_in(text.as_bytes()), want, "{text}");
    }
    for name in ["", "x:", "user:", "ignored:"] {
        let pair = format!("{name}pa$$-word/3.14159");
        for pair in [pair.clone(), format!("{pair}\n"), format!("{pair}, ")] {
            assert!(secret.is_in(STANDARD_NO_PAD.encode(&pair).as_bytes()), "{pair}");
        }
    }
    assert!(secret.is_in(format!("{:?}", secret.text().as_bytes()).as_bytes()));
}
