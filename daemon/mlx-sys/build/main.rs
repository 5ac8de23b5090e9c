//! Builds and links MLX's C API.

#![allow(
    clippy::disallowed_methods,
    reason = "a build script runs compilers and reads cargo's environment"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
};

#[cfg(not(target_os = "macos"))]
#[path = "linux.rs"]
mod platform;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod platform;

fn main() {
    let tools = tools();
    let mlx_c = tools.join("mlx-c");
    require(&mlx_c.join("mlx/c/mlx.h"), "make setup");
    println!("cargo:rerun-if-env-changed=DEMOLISH_TOOLS");
    println!("cargo:rerun-if-changed={}", mlx_c.join("mlx/c").display());
    platform::build(&tools, &mlx_c);
    bind(&mlx_c);
}

/// `make setup` puts what is not ours under `.tools` in the repository root.
fn tools() -> PathBuf {
    if let Some(tools) = env::var_os("DEMOLISH_TOOLS") {
        return tools.into();
    }
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest.ancestors().nth(2).expect("the crate lies in daemon/mlx-sys");
    root.join(".tools")
}

/// Ends the build with the remedy when a file is missing.
fn require(file: &Path, remedy: &str) {
    if !file.exists() {
        println!("cargo:rerun-if-changed={}", file.display());
        eprintln!("\nerror: {} is missing: run `{remedy}`\n", file.display());
        std::process::exit(1);
    }
}

/// The Rust declarations of mlx-c's headers.
fn bind(mlx_c: &Path) {
    let mut headers: Vec<PathBuf> = fs::read_dir(mlx_c.join("mlx/c"))
        .expect("the folder was there a moment ago")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "h"))
        .collect();
    headers.sort();
    let builder = bindgen::Builder::default()
        .rust_target("1.73.0".parse().expect("a version that upstream names"))
        .clang_arg(format!("-I{}", mlx_c.display()))
        .blocklist_function("malloc")
        .blocklist_function("realloc");
    let builder =
        headers.iter().fold(builder, |builder, header| builder.header(header.to_string_lossy()));
    let bindings =
        builder.generate().unwrap_or_else(|error| panic!("bindgen (needs libclang): {error}"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR is writable");
}
