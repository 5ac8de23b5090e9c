//! Linux: one shared library, `libmlxc.so`, made of the mlx-c sources and our shim, linked to the wheel's `libmlx.so`.
//!
//! It is a shared library for two reasons. Its name (soname) is its absolute path in the build folder and it finds libmlx by its
//! own run path, so every binary and test of the workspace starts without a linker flag of its own. And it stands before libmlx
//! in the order of symbol look-up, which is how the shim chooses the BLAS.
//!
//! The wheel for CUDA has the same layout. Compiled and linked against it, this crate was; nobody has run it on a GPU yet
//! (docs/models/metal.md). Everything that differs is found at run time: MLX's default device is a GPU, or it is not.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::require;

/// Which MLX is linked: `cuda`, or that for the CPU where the variable is not set.
const CHOICE: &str = "DEMOLISH_MLX";

pub(crate) fn build(tools: &Path, mlx_c: &Path) {
    println!("cargo:rerun-if-env-changed={CHOICE}");
    let (mlx, remedy) = match env::var(CHOICE).unwrap_or_default().as_str() {
        "" | "cpu" => (tools.join("mlx"), "make setup"),
        "cuda" => (tools.join("mlx-cuda"), "cargo xtask setup --with cuda"),
        other => panic!("{CHOICE} is {other:?}; it may be `cpu` or `cuda`"),
    };
    require(&mlx.join("lib/libmlx.so"), remedy);
    require(&mlx.join("include/mlx/mlx.h"), remedy);
    let shim =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("shim");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    println!("cargo:rerun-if-changed={}", shim.display());
    println!("cargo:rerun-if-changed={}", mlx.join("lib/libmlx.so").display());

    let mut objects = cc::Build::new()
        .cpp(true)
        .std("c++20")
        .opt_level(1)
        .debug(false)
        .warnings(false)
        .include(mlx_c)
        .include(mlx.join("include"))
        .flag("-include")
        .flag(shim.join("format.h"))
        .file(one_source(mlx_c, &out))
        .file(shim.join("stream.cpp"))
        .file(shim.join("native.cpp"))
        .compile_intermediates();
    objects.extend(cc::Build::new().opt_level(2).file(shim.join("blas.c")).compile_intermediates());
    link(&objects, &mlx.join("lib"), &out);

    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=mlxc");
    println!("cargo:include={}:{}", mlx.join("include").display(), mlx_c.display());
}

/// All of mlx-c as one source: the headers of MLX are big, and parsed once it takes seconds instead of minutes.
fn one_source(mlx_c: &Path, out: &Path) -> PathBuf {
    let mut sources: Vec<PathBuf> = fs::read_dir(mlx_c.join("mlx/c"))
        .expect("the folder was there a moment ago")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "cpp"))
        .collect();
    sources.sort();
    let text: String =
        sources.iter().map(|source| format!("#include \"{}\"\n", source.display())).collect();
    let path = out.join("mlxc.cpp");
    fs::write(&path, text).expect("OUT_DIR is writable");
    path
}

fn link(objects: &[PathBuf], lib: &Path, out: &Path) {
    let lib = lib.canonicalize().expect("it was there a moment ago");
    let target = out.join("libmlxc.so");
    let compiler = cc::Build::new().cpp(true).get_compiler();
    let status = Command::new(compiler.path())
        .arg("-shared")
        .args(objects)
        .arg("-o")
        .arg(&target)
        .arg(format!("-Wl,-soname,{}", target.display()))
        .arg(format!("-Wl,-rpath,{}", lib.display()))
        .arg(format!("-L{}", lib.display()))
        .args(["-lmlx", "-ldl"])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "linking {} failed", target.display());
}
