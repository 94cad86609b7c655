//! How each shell sets a variable. A value's token is read from its file when the line is run.

use clap::ValueEnum;

use crate::clients::place::TOKEN;

/// What the settings are written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// bash, zsh, dash and every other POSIX shell.
    #[default]
    #[value(alias = "sh", alias = "zsh")]
    Bash,
    /// fish.
    Fish,
    /// PowerShell.
    #[value(alias = "pwsh")]
    Powershell,
    /// One JSON object for programs.
    Json,
}

/// Where a value's token comes from.
#[derive(Clone, Debug)]
pub(crate) enum Token {
    /// The file that holds it.
    File(String),
    /// This text.
    Text(String),
}

impl Shell {
    /// The line that sets `name`; `value` may hold the token's place.
    pub(crate) fn set(self, name: &str, value: &str, token: &Token) -> String {
        let value = self.value(value, token);
        match self {
            Shell::Bash => format!("export {name}={value}"),
            Shell::Fish => format!("set -gx {name} {value}"),
            Shell::Powershell => format!("$env:{name} = {value}"),
            Shell::Json => format!("{name}={value}"),
        }
    }

    /// The line that takes the setting of `name` back.
    pub(crate) fn unset(self, names: &[&str]) -> String {
        match self {
            Shell::Bash | Shell::Json => format!("unset {}", names.join(" ")),
            Shell::Fish => format!("set -e {}", names.join(" ")),
            Shell::Powershell => {
                let names: Vec<_> = names.iter().map(|name| format!("Env:{name}")).collect();
                format!("Remove-Item {}", names.join(","))
            }
        }
    }

    fn value(self, value: &str, token: &Token) -> String {
        match token {
            Token::File(path) if value.contains(TOKEN) => self.reading(value, path),
            Token::File(_) => self.quoted(value),
            Token::Text(text) => self.quoted(&value.replace(TOKEN, text)),
        }
    }

    /// `value` in quotes that let one command through.
    fn reading(self, value: &str, path: &str) -> String {
        let (escapes, escape, command) = match self {
            Shell::Bash | Shell::Json => ("\\\"$`", '\\', format!("$(cat {})", self.quoted(path))),
            // fish knows no command inside quotes.
            Shell::Fish => ("\\\"$", '\\', format!("\"(cat {})\"", self.quoted(path))),
            Shell::Powershell => ("`\"$", '`', format!("$(Get-Content {})", self.quoted(path))),
        };
        let mut text = String::from("\"");
        for (index, part) in value.split(TOKEN).enumerate() {
            if index > 0 {
                text.push_str(&command);
            }
            for c in part.chars() {
                if escapes.contains(c) {
                    text.push(escape);
                }
                text.push(c);
            }
        }
        text.push('"');
        text
    }

    fn quoted(self, text: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@+".contains(c);
        if self != Shell::Powershell && !text.is_empty() && text.chars().all(plain) {
            return text.to_owned();
        }
        match self {
            Shell::Bash | Shell::Json => format!("'{}'", text.replace('\'', "'\\''")),
            Shell::Fish => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
            Shell::Powershell => format!("'{}'", text.replace('\'', "''")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_a_posix_shell_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it's a token");
        std::fs::write(&path, "cw_secret\n").unwrap();
        let token = Token::File(path.display().to_string());
        for (value, want) in [
            (
                "http://x:{token}@127.0.0.1:8888",
                "http://x:cw_secret@127.0.0.1:8888",
            ),
            (
                "a b $HOME `id` \"c\" 'd' \\ {token}",
                "a b $HOME `id` \"c\" 'd' \\ cw_secret",
            ),
            ("it's $HOME", "it's $HOME"),
            ("", ""),
        ] {
            let script = format!(
                "{}; printf %s \"$VALUE\"",
                Shell::Bash.set("VALUE", value, &token)
            );
            let output = std::process::Command::new("sh")
                .args(["-c", &script])
                .output()
                .unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), want, "{script}");
        }
    }

    #[test]
    fn each_shell_has_its_own_way() {
        let token = Token::File("/t".to_owned());
        for (shell, want) in [
            (Shell::Bash, "export A=\"x$(cat /t)\""),
            (Shell::Fish, "set -gx A \"x\"(cat /t)\"\""),
            (Shell::Powershell, "$env:A = \"x$(Get-Content '/t')\""),
        ] {
            assert_eq!(shell.set("A", "x{token}", &token), want);
        }
        assert_eq!(Shell::Powershell.unset(&["A", "B"]), "Remove-Item Env:A,Env:B");
    }
}
