//! How a command fails: a message with its causes, and an exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use bridged::config::ConfigError;

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    lines: Vec<String>,
    code: u8,
}

impl Failure {
    /// A failure with its own words.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure {
            lines: vec![text.into()],
            code: 1,
        }
    }

    /// A failure with the error behind it.
    pub(crate) fn because(text: &str, error: impl Error) -> Failure {
        Failure::new(format!("{text}: {}", chain(&error)))
    }

    /// Wrong use of the command line.
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure {
            lines: vec![text.into()],
            code: 2,
        }
    }

    /// What to say, one line a problem.
    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Prints the failure.
    pub(crate) fn report(&self) -> ExitCode {
        for line in &self.lines {
            eprintln!("causeway: {line}");
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("; "))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure {
            lines: error.lines().to_vec(),
            code: 2,
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
