//! Lines of CSV (RFC 4180) that spreadsheets may open without harm.
//!
//! A text that a spreadsheet would take for a formula gets an apostrophe before it; what needs quotes gets them.
//! Numbers go as they are.

use std::fmt::Display;

/// Lines in the making.
#[derive(Debug, Default)]
pub(crate) struct Csv {
    text: String,
    /// Whether the line has a field already.
    is_begun: bool,
}

impl Csv {
    /// Adds a field with a text, which anybody may have written.
    pub(crate) fn text(&mut self, text: &str) -> &mut Csv {
        self.separate();
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if !is_formula && !text.contains(['"', ',', '\r', '\n']) {
            self.text.push_str(text);
            return self;
        }
        self.text.push('"');
        if is_formula {
            self.text.push('\'');
        }
        self.text.push_str(&text.replace('"', "\"\""));
        self.text.push('"');
        self
    }

    /// Adds a field with a text, empty where there is none.
    pub(crate) fn optional_text(&mut self, text: Option<&str>) -> &mut Csv {
        self.text(text.unwrap_or_default())
    }

    /// Adds a field with a number or another value that the program itself has formed; empty where there is none.
    pub(crate) fn plain(&mut self, value: impl Into<Option<i64>>) -> &mut Csv {
        match value.into() {
            Some(value) => self.formed(value),
            None => self.formed(""),
        }
    }

    /// Adds a field that the program itself has formed, without anything that needs quotes.
    pub(crate) fn formed(&mut self, value: impl Display) -> &mut Csv {
        self.separate();
        self.text.push_str(&value.to_string());
        self
    }

    /// Ends the line.
    pub(crate) fn end_line(&mut self) {
        self.text.push_str("\r\n");
        self.is_begun = false;
    }

    /// The lines so far.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.is_begun, true) {
            self.text.push(',');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_defused_and_the_rest_is_quoted_where_it_must_be() {
        for (text, want) in [
            ("plain", "plain"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "\"'\r=1\""),
            ("a=1", "a=1"),
        ] {
            let mut csv = Csv::default();
            csv.text(text).plain(-5).plain(None).end_line();
            assert_eq!(csv.into_text(), format!("{want},-5,\r\n"), "{text:?}");
        }
    }
}
