//! Promises of the workspace itself: lints reach every member, dependencies point one way.

use std::path::{Path, PathBuf};

fn manifest(member: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(member)
        .join("Cargo.toml");
    std::fs::read_to_string(path).unwrap()
}

/// The names of a manifest's ordinary dependencies.
fn dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section
        .lines()
        .filter_map(|line| line.split([' ', '.', '=']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

const MEMBERS: [&str; 5] = ["", "certs", "providers", "bridged", "proxyd"];

#[test]
fn the_lint_table_reaches_every_member() {
    for member in MEMBERS {
        assert!(
            manifest(member).contains("\n[lints]\nworkspace = true"),
            "`{member}` leaves the lint table out"
        );
    }
}

#[test]
fn dependencies_point_one_way() {
    for (member, refused) in [
        ("certs", &["tokio", "hyper", "providers", "bridged", "proxyd"][..]),
        (
            "providers",
            &["tokio", "hyper", "certs", "bridged", "proxyd", "rcgen"],
        ),
        ("bridged", &["certs", "proxyd", "rcgen"]),
        ("proxyd", &["rcgen", "rusqlite"]),
        ("", &["rcgen", "rusqlite", "axum"]),
    ] {
        let manifest = manifest(member);
        let found = dependencies(&manifest);
        assert!(!found.is_empty(), "`{member}` has dependencies");
        for name in refused {
            assert!(!found.contains(name), "`{member}` must not depend on {name}");
        }
    }
}
