//! The layer table, and the test that the crates keep to it.
//!
//! An arrow between two of our crates must point to a lower layer. The table also says which outside packages belong to one
//! crate alone, and which crates are pure: nothing that they stand on may bring an async runtime. A new crate must be given
//! a layer here before anything else works; docs/architecture.md explains the layers.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::paths;
use crate::shell::Shell;

/// The layers, lowest first. Crates of one layer do not know each other.
const LAYERS: &[&[&str]] = &[
    &["text", "kernels", "mlx-sys", "xtask"],
    &["engine", "lang", "recall", "sql", "wire", "testkit"],
    &["decode", "integrity", "verify", "proxy", "serve", "heal"],
    &["agent"],
    &["demolish"],
];

/// Arrows that break the rule, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("kernels", "mlx-sys", "a primitive of MLX is written against MLX's own interface"),
    (
        "testkit",
        "wire",
        "fixtures drive servers through the real wire; testkit is only ever a dev-dependency",
    ),
];

/// Outside packages that one crate alone may name, so that their types go no further.
const OWNERS: &[(&str, &[&str])] = &[
    ("ls-types", &["wire"]),
    ("lsp-types", &[]),
    ("tower-lsp-server", &["wire"]),
    ("nvim-rs", &["testkit"]),
    ("mlx-rs", &["engine"]),
    ("mlx-sys", &["engine", "kernels"]),
    ("tree-sitter", &["lang"]),
    ("tokenizers", &["engine"]),
    ("ropey", &["text"]),
    ("rusqlite", &["sql"]),
    ("postgres-protocol", &["sql"]),
];

/// Crates that only ever serve tests.
const DEV_ONLY: &[&str] = &["testkit"];

/// Crates without an async runtime anywhere below them.
const PURE: &[&str] = &["text", "lang", "recall", "proxy", "integrity"];
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "async-executor"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A crate of the workspace, as `cargo metadata` tells it.
#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    kind: Option<String>,
}

/// Everything that is wrong, one sentence each.
pub(crate) fn check() -> Result<Vec<String>> {
    let packages = workspace()?;
    let mut wrong = check_arrows(&packages);
    wrong.extend(check_owners(&packages));
    wrong.extend(check_places(&packages));
    for package in packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        wrong.extend(check_purity(&package.name)?);
    }
    Ok(wrong)
}

fn workspace() -> Result<Vec<Package>> {
    let manifest = paths::root().join("Cargo.toml");
    let query = Shell::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(manifest);
    let metadata: Metadata = serde_json::from_str(&query.read()?)
        .context("cargo metadata printed something else than JSON")?;
    Ok(metadata.packages)
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|crates| crates.contains(&name))
}

fn check_arrows(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for Package { name: from, dependencies, .. } in packages {
        let Some(above) = layer(from) else {
            wrong.push(format!(
                "the crate {from} has no layer; give it one in daemon/xtask/src/layers.rs"
            ));
            continue;
        };
        for Dependency { name: to, kind } in
            dependencies.iter().filter(|d| ours.contains(d.name.as_str()))
        {
            let excepted = EXCEPTIONS.iter().any(|(f, t, _)| f == from && t == to);
            if layer(to).is_some_and(|below| below >= above) && !excepted {
                wrong.push(format!(
                    "{from} -> {to} points up or sideways (layer {above} to {})",
                    layer(to).unwrap_or(above)
                ));
            }
            if DEV_ONLY.contains(&to.as_str()) && kind.as_deref() != Some("dev") {
                wrong.push(format!("{from} -> {to}: {to} may only be a dev-dependency"));
            }
        }
    }
    wrong
}

fn check_owners(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        for dependency in &package.dependencies {
            let owners =
                OWNERS.iter().find(|(name, _)| *name == dependency.name).map(|(_, owners)| *owners);
            if owners.is_some_and(|owners| !owners.contains(&package.name.as_str())) {
                let owners = owners.unwrap_or_default().join(" and ");
                wrong.push(format!(
                    "{} names {}, which belongs to {owners}",
                    package.name, dependency.name
                ));
            }
        }
    }
    wrong
}

/// Flat workspace: the folder has the crate's name and lies in `daemon/`.
fn check_places(packages: &[Package]) -> Vec<String> {
    let misplaced = packages.iter().filter(|package| {
        let expected = paths::root().join("daemon").join(&package.name).join("Cargo.toml");
        package.manifest_path.canonicalize().ok() != expected.canonicalize().ok()
    });
    misplaced
        .map(|package| format!("the crate {0} does not lie in daemon/{0}", package.name))
        .collect()
}

/// What a crate stands on, without what only tests and builds need, as cargo resolves it for this crate alone.
fn check_purity(name: &str) -> Result<Vec<String>> {
    let query = Shell::new("cargo").args([
        "tree",
        "--package",
        name,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let tree = query.dir(&paths::root()).read()?;
    let below: BTreeSet<&str> =
        tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let impure = RUNTIMES.iter().filter(|runtime| below.contains(*runtime));
    Ok(impure
        .map(|runtime| {
            format!(
                "{name} is pure, but {runtime} is below it (`cargo tree -p {name} -i {runtime}`)"
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crates_keep_to_the_layers() {
        let wrong = check().unwrap();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(n, k)| Dependency { name: (*n).into(), kind: k.map(str::to_owned) });
        Package {
            name: name.into(),
            manifest_path: PathBuf::new(),
            dependencies: dependencies.collect(),
        }
    }

    #[test]
    fn arrows_up_and_sideways_are_found() {
        let engine = package("engine", &[("decode", None), ("wire", None), ("text", None)]);
        let packages = [engine, package("decode", &[]), package("wire", &[]), package("text", &[])];
        let wrong = check_arrows(&packages);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].starts_with("engine -> decode points up"), "{wrong:?}");
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert!(check_arrows(&[package("stray", &[])])[0].contains("has no layer"));
    }

    #[test]
    fn testkit_is_for_tests_alone() {
        let packages = [package("decode", &[("testkit", None)]), package("testkit", &[])];
        assert!(check_arrows(&packages)[0].contains("only be a dev-dependency"));
        let packages = [package("decode", &[("testkit", Some("dev"))]), package("testkit", &[])];
        assert!(check_arrows(&packages).is_empty());
    }

    #[test]
    fn owned_packages_stay_with_their_owner() {
        let wrong = check_owners(&[
            package("proxy", &[("ls-types", None)]),
            package("wire", &[("ls-types", None)]),
        ]);
        assert_eq!(wrong, ["proxy names ls-types, which belongs to wire"]);
    }
}
