//! macOS: upstream's own way. CMake builds mlx-c and fetches the MLX that it pins; with Metal where the feature says so.
//!
//! Adapted from the build script of mlx-sys 0.7.0 (MIT OR Apache-2.0, Minghua Wu and David Chavez), with the sources taken from
//! `.tools/mlx-c`. NOT TESTED: nobody has run this version of it on a Mac yet.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// mlx-c and what MLX links statically; jaccl only where it was built.
const LIBRARIES: [&str; 4] = ["mlx", "mlxc", "gguflib", "jaccl"];

pub(crate) fn build(_tools: &Path, mlx_c: &Path) {
    let on_off = |yes: bool| if yes { "ON" } else { "OFF" };
    let mut config = cmake::Config::new(mlx_c);
    config
        .very_verbose(true)
        .define("CMAKE_INSTALL_PREFIX", ".")
        // Xcode's clang, which fits the macOS SDK.
        .define("CMAKE_C_COMPILER", "/usr/bin/cc")
        .define("CMAKE_CXX_COMPILER", "/usr/bin/c++")
        .define("CMAKE_BUILD_TYPE", "Release")
        .define("MLX_C_BUILD_EXAMPLES", "OFF")
        .define("MLX_BUILD_METAL", on_off(cfg!(feature = "metal")))
        .define("MLX_METAL_JIT", on_off(cfg!(feature = "metal-jit")))
        .define("MLX_BUILD_ACCELERATE", on_off(cfg!(feature = "accelerate")));
    if cfg!(feature = "metal") {
        let folder = metallib_folder();
        fs::create_dir_all(&folder).expect("the folder of the Metal library can be made");
        config.define("MLX_METAL_PATH", &folder);
    }
    let build = config.build().join("build");

    println!("cargo:rustc-link-search=native={}/lib", build.display());
    println!("cargo:rustc-link-search=native={}/_deps/mlx-build/mlx/io", build.display());
    for library in LIBRARIES {
        if library == "jaccl" {
            if !build.join("jaccl/libjaccl.a").is_file() {
                continue;
            }
            println!("cargo:rustc-link-search=native={}/jaccl", build.display());
        }
        println!("cargo:rustc-link-lib=static={library}");
    }
    println!("cargo:rustc-link-lib=c++");
    println!("cargo:rustc-link-lib=dylib=objc");
    println!("cargo:rustc-link-lib=framework=Foundation");
    if cfg!(feature = "metal") {
        println!("cargo:rustc-link-lib=framework=Metal");
    }
    if cfg!(feature = "accelerate") {
        println!("cargo:rustc-link-lib=framework=Accelerate");
    }
    if let Some(folder) = clang_runtime() {
        println!("cargo:rustc-link-search={}", folder.display());
        println!("cargo:rustc-link-lib=static=clang_rt.osx");
    }
}

/// MLX looks its Metal library up where it was built, so the folder must outlive the build.
fn metallib_folder() -> PathBuf {
    println!("cargo:rerun-if-env-changed=MLX_RS_METAL_PATH");
    if let Some(path) = env::var_os("MLX_RS_METAL_PATH") {
        return path.into();
    }
    let home = env::var_os("HOME").expect("HOME, or MLX_RS_METAL_PATH, must be set");
    let flavour = if cfg!(feature = "metal-jit") { "mlx-c-0.7.0-jit" } else { "mlx-c-0.7.0" };
    PathBuf::from(home).join(".mlx/lib").join(flavour)
}

/// Xcode's compiler runtime has `___isPlatformVersionAtLeast`, which MLX needs on macOS 26 and later.
fn clang_runtime() -> Option<PathBuf> {
    let output = Command::new("xcode-select").arg("--print-path").output().ok()?;
    let developer = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let clang = developer.join("Toolchains/XcodeDefault.xctoolchain/usr/lib/clang");
    let versions = fs::read_dir(clang).ok()?.flatten();
    versions
        .map(|version| version.path().join("lib/darwin"))
        .find(|folder| folder.join("libclang_rt.osx.a").exists())
}
