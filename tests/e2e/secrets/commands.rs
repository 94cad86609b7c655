//! What commands print: nothing of any secret, but for those whose work is to print one.

use super::mistakes::mistakes;
use super::world::World;

/// Each command with whether it succeeds.
const COMMANDS: &[(&[&str], bool)] = &[
    (&["check"], true),
    (&["ca", "show"], true),
    (&["ca", "install"], true),
    (&["ca", "export"], true),
    (&["ca", "init"], false),
    (&["token", "list"], true),
    (&["token", "list", "--json"], true),
    (&["token", "revoke", "nobody"], false),
    (&["token", "create", "--user", "x", "--expires", "soon"], false),
    (&["sessions"], true),
    (&["sessions", "--json"], true),
    (&["show", "nothing"], false),
    (&["audit", "verify"], true),
    (&["audit", "checkpoint"], true),
    (&["vacuum"], true),
    (&["erase", "--user", "nobody"], true),
    (&["env"], true),
    (&["env", "--shell", "powershell"], true),
    (&["env", "--shell", "json"], true),
    (&["env", "--base-url", "--client", "python"], true),
    (&["run", "-v", "--", "true"], true),
    (&["run", "--", "no-such-program"], false),
    (&["doctor"], false),
    (&["doctor", "--json", "--client", "node"], false),
    (&["serve"], false),
];

/// The environment of a person who has done it by hand, and not quite right.
fn environment(world: &World) -> Vec<(&'static str, String)> {
    let proxy = |scheme: &str| {
        format!(
            "{scheme}://x:{}@{}",
            world.secrets.unknown.text(),
            world.gateway.proxy()
        )
    };
    vec![
        ("HTTPS_PROXY", proxy("http")),
        ("https_proxy", proxy("socks5")),
        ("NO_PROXY", "*".to_owned()),
        ("PLANTED_KEY", world.secrets.anthropic.text().to_owned()),
        ("OPENAI_API_KEY", world.secrets.byok.text().to_owned()),
    ]
}

/// The clients that have a page.
fn clients() -> Vec<String> {
    let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/clients")).unwrap();
    let names = pages.map(|page| {
        page.unwrap()
            .path()
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|name| name != "README").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_tells_a_secret() {
    let world = World::start().await;
    let environment = environment(&world);
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let config = world.gateway.data_dir().parent().unwrap().join("causeway.toml");
    let config = config.to_str().unwrap();
    let text = world.gateway.configuration();
    for (arguments, succeeds) in COMMANDS {
        let mut all = vec!["--config", config];
        all.extend(*arguments);
        let found = tokio::task::block_in_place(|| world.runs(&all, &environment));
        assert_eq!(found, *succeeds, "{arguments:?}");
        world.check_log(&arguments.join(" "), 0);
    }
    for client in clients() {
        let all = ["--config", config, "env", "--client", &client];
        tokio::task::block_in_place(|| world.runs(&all, &environment));
        world.check_log(&format!("env --client {client}"), 0);
    }
    let wrong = world.gateway.data_dir().parent().unwrap().join("wrong.toml");
    for mistake in mistakes(world.secrets.byok.text(), world.secrets.proxy.text()) {
        std::fs::write(&wrong, format!("{text}\n{mistake}")).unwrap();
        for command in ["check", "doctor", "env", "serve"] {
            let all = ["--config", wrong.to_str().unwrap(), command];
            let found = tokio::task::block_in_place(|| world.runs(&all, &environment));
            assert!(!found, "{command} with {mistake}");
            world.check_log(command, 0);
        }
    }
}
