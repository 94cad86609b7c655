//! Lines of CSV (RFC 4180) that spreadsheets may open without harm.
//!
//! A text that a spreadsheet would take for a formula gets an apostrophe before it; what needs quotes gets them.
//! Numbers go as they are.

use std::fmt::Display;

/// Lines in the making.
pub(crate) struct Csv(::csv::Writer<Vec<u8>>);

impl Default for Csv {
    fn default() -> Csv {
        let mut settings = ::csv::WriterBuilder::new();
        settings.terminator(::csv::Terminator::CRLF).flexible(true);
        Csv(settings.from_writer(Vec::new()))
    }
}

impl Csv {
    /// Adds a field with a text, which anybody may have written.
    pub(crate) fn text(&mut self, text: &str) -> &mut Csv {
        const FORMULAS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
        if text.starts_with(FORMULAS) {
            self.formed(format_args!("'{text}"))
        } else {
            self.add(text)
        }
    }

    /// Adds a field with a text, empty where there is none.
    pub(crate) fn optional_text(&mut self, text: Option<&str>) -> &mut Csv {
        self.text(text.unwrap_or_default())
    }

    /// Adds a field with a number or another value that the program itself has formed; empty where there is none.
    pub(crate) fn plain(&mut self, value: impl Into<Option<i64>>) -> &mut Csv {
        match value.into() {
            Some(value) => self.formed(value),
            None => self.add(""),
        }
    }

    /// Adds a field that the program itself has formed, and no spreadsheet takes for a formula.
    pub(crate) fn formed(&mut self, value: impl Display) -> &mut Csv {
        self.add(&value.to_string())
    }

    fn add(&mut self, text: &str) -> &mut Csv {
        // Writing to memory cannot fail.
        let _ = self.0.write_field(text);
        self
    }

    /// Ends the line.
    pub(crate) fn end_line(&mut self) {
        let _ = self.0.write_record(None::<&[u8]>);
    }

    /// The lines so far.
    pub(crate) fn into_text(self) -> String {
        String::from_utf8(self.0.into_inner().unwrap_or_default()).unwrap_or_default()
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
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("＝1", "'＝1"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("a=1", "a=1"),
        ] {
            let mut csv = Csv::default();
            csv.text(text).plain(-5).plain(None).end_line();
            assert_eq!(csv.into_text(), format!("{want},-5,\r\n"), "{text:?}");
        }
    }
}
