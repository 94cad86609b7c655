//! Mistakes that people make in a configuration, each with a secret at the wrong place.

/// Sections that cannot be used, with this key or this password in them.
pub(super) fn mistakes(key: &str, password: &str) -> Vec<String> {
    vec![
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nkeys = \"{key}\"\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nkeys = [\"{key}\"]\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nkeys = [{{ literl = \"{key}\" }}]\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nkeys = [{{ env = \"{key}\" }}]\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nkeys = [{{ file = \"{key}\" }}]\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nbyok = \"{key}\"\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://more.test/v1\"\nkey-header = \"a b: {key}\"\n"
        ),
        format!(
            "[[provider]]\nname = \"more\"\nkind = \"openai\"\nbase-url = \"https://user:{key}@more.test/v1\"\n"
        ),
        format!("[[provider]]\nname = \"more\"\nkind = \"{key}\"\nbase-url = \"https://more.test/v1\"\n"),
        format!("[[provider]]\nname = \"more\"\nkeys = [{{ literal = \"{key}\" }}\n"),
        format!("[[provider]]\nname = \"more\"\nkeys = [{{ literal = {key} }}]\n"),
        format!("[[provider]]\nname = \"more\"\nkey = \"{key}\"\n"),
        format!("[store]\nurl = [\"postgres://causeway:{password}@db/records\"]\n"),
        format!("[store]\nurl = \"mysql://causeway:{password}@db/records\"\n"),
        format!("[store]\nurl = \"postgres://causeway:{key}@db:port/records\"\n"),
        format!("[store]\nurl = \"postgres://causeway:{key}\"\n"),
        format!("[record]\ncontent = \"{key}\"\n"),
        format!("[shed]\nlag = \"{key}\"\n"),
    ]
}
