//! The settings: declared once, here.
//!
//! The table below gives each setting its name, type, default, limits, scope and words. From it come the [`Config`] that
//! the program uses, the reader with its did-you-mean errors ([`read`]), and everything that [`generate`] writes:
//! `docs/config.md`, `docs/config.schema.json` and `lua/demolish/defaults.lua`.
//!
//! A broken configuration never stops the proxy: a setting that cannot be used keeps its default, and is reported once.

pub mod generate;
pub mod read;
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests write files and read the environment")]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value as Json;

pub use read::{Layers, Loaded, Problem};
pub use value::{Drafts, Kind, KvBits, LogLevel, Speculation, SqlDialect, Value, Withhold};

/// Who may set a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The user's file, the project's `.demolish.toml`, the environment and the editor.
    Project,
    /// As above, but never the project's file, because it starts programs, reads paths or spends the user's memory: a
    /// repository that was just cloned must not be able to.
    User,
    /// The editor's plugin only; the daemon never sees it.
    Editor,
}

/// One row of the table.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The dotted name: `section.field`.
    pub key: String,
    /// The type, for the schema and for messages.
    pub kind: Kind,
    /// The default, as JSON.
    pub default: Json,
    /// Smallest and largest value of a number.
    pub limits: Option<(f64, f64)>,
    /// Who may set it.
    pub scope: Scope,
    /// What it does.
    pub doc: &'static str,
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $(
                $(#[doc = $doc:literal])+
                $scope:ident $field:ident: $ty:ty = $default:expr $(, $min:literal..=$max:literal)?;
            )+
        }
    )+) => {
        /// Every setting with its value.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct Config {
            $($(#[doc = $section_doc])+ pub $section: $Section,)+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Debug, Clone, PartialEq)]
            pub struct $Section {
                $($(#[doc = $doc])+ pub $field: $ty,)+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $($field: $default,)+ }
                }
            }
        )+

        /// The sections with their words, in order.
        pub const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($section_doc),+)),)+];

        /// The table of settings, in order.
        #[must_use]
        pub fn settings() -> Vec<Setting> {
            vec![$($(
                Setting {
                    key: concat!(stringify!($section), ".", stringify!($field)).to_owned(),
                    kind: <$ty as Value>::kind(),
                    default: <$ty as Value>::write(&{ let default: $ty = $default; default }),
                    limits: None $(.or(Some((f64::from($min), f64::from($max)))))?,
                    scope: settings!(@scope $scope),
                    doc: concat!($($doc),+),
                },
            )+)+]
        }

        impl Config {
            /// Sets one setting. `Err` says what was wrong with the value; an unknown key cannot come here.
            fn set(&mut self, key: &str, value: &Json) -> Result<(), String> {
                match key {
                    $($(
                        concat!(stringify!($section), ".", stringify!($field)) => {
                            self.$section.$field = <$ty as Value>::read(value)?;
                        }
                    )+)+
                    _ => return Err("no such setting".to_owned()),
                }
                Ok(())
            }

            /// The settings that [`Config::values`] wrote. Values that do not fit are left at their defaults.
            #[must_use]
            pub fn of_values(values: &serde_json::Map<String, Json>) -> Config {
                let mut config = Config::default();
                for (key, value) in values {
                    let _ = config.set(key, value);
                }
                config
            }

            /// The value of every setting as JSON, by its dotted name, in the table's order.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static str, Json)> {
                vec![$($((
                    concat!(stringify!($section), ".", stringify!($field)),
                    <$ty as Value>::write(&self.$section.$field),
                ),)+)+]
            }
        }
    };
    (@scope project) => { Scope::Project };
    (@scope user) => { Scope::User };
    (@scope editor) => { Scope::Editor };
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

settings! {
    /// The models that write: directories in MLX format, loaded once for all editors.
    model: Model {
        /// Load a model at all. Without one the proxy works as before, and every feature that needs a model says that it is off.
        project enabled: bool = true;
        /// The model's directory. Not set: the default model that comes with Demolish.
        user path: Option<PathBuf> = None;
        /// The directory of a second model, for fixes, the agent and the doors; whoever types keeps the first one. Not set: the first one does everything.
        user agent_path: Option<PathBuf> = None;
        /// The address of the hub that `demolish model pull` takes models from: any server that serves Hugging Face's layout, such as a mirror (`https://…`). A token for it is read from `DEMOLISH_HUB_TOKEN`. Empty: none.
        user hub_url: String = String::new();
        /// Folders in which `demolish model list` looks for models too, beside the one that `demolish model pull` writes to.
        user folders: Vec<String> = Vec::new();
        /// Compute several tokens at once where they can be guessed, and keep those that the model would have written: `auto` where that has been measured to pay and is the same to the last bit, `on` also where it is the same up to rounding (OpenBLAS, delta nets), `off` never.
        project speculation: Drafts = Drafts::Auto;
        /// The directory of a small model with the same tokenizer that guesses for the big one (`model.agent_path`, or `model.path` where that is the only one). Not set: guesses come from the text alone.
        user draft_path: Option<PathBuf> = None;
        /// The address of a server with OpenAI's endpoints that runs a model for fixes, the agent and the doors: `http://host:8080`. It goes before `model.agent_path`. Not set: models run on this machine.
        user remote_url: Option<String> = None;
        /// The model to ask that server for. Not set: the first that it names.
        user remote_model: Option<String> = None;
        /// The tokenizer.json of that model, or the directory that holds it. Not set: its tokens are taken for bytes, and prompts that need special tokens cannot be made.
        user remote_tokenizer: Option<PathBuf> = None;
        /// The environment variable that holds the key which that server wants to be shown.
        user remote_key_env: Option<String> = None;
        /// A file that holds the key, where no variable does.
        user remote_key_file: Option<PathBuf> = None;
        /// Ask that server for inline completions too.
        user remote_typing: bool = false;
        /// The most memory that the weights and caches of all models together may take, in GiB; a model that needs more is refused before it is loaded. `0`: what the machine has.
        user memory_max_gib: f64 = 0.0, 0..=4096;
        /// The longest prompt plus answer, in tokens, if that is less than the model's own: a shorter one takes less memory. `0`: the model's own.
        user context_max: u32 = 0, 0..=16777216;
        /// Pack keys and values of the cache into 8 or 4 bits, where the architecture allows it: long contexts take less memory, and are read less exactly. `0`: they are not packed.
        user kv_bits: KvBits = KvBits::Unpacked;
        /// A model that nobody has used for this many minutes is unloaded, and loaded again when somebody needs it. `0`: it stays.
        user idle_unload_min: u32 = 60, 0..=10080;
        /// The most disk space that caches of long prompts may take, in GiB, for each model; they lie below the state's folder, readable for the user alone, and spare the agent from reading its conversation again after a restart. `0`: caches end with the daemon.
        user disk_cache_gib: f64 = 8.0, 0..=4096;
    }

    /// Inline completion.
    complete: Complete {
        /// Offer inline completions.
        project enabled: bool = true;
        /// How long a completion may take, in milliseconds; what is there by then is shown with the verdict it has.
        project deadline_ms: u32 = 1500, 50..=60000;
        /// The most lines that one suggestion may have. `0` lets the place decide: one in the middle of a line, up to four at the start of a block.
        project lines_max: u32 = 0, 0..=100;
        /// The most tokens that one suggestion may have.
        project tokens_max: u32 = 96, 1..=2048;
        /// The most questions to the language server for one suggestion.
        project checks_max: u32 = 6, 0..=100;
        /// How many suggestions are offered to choose from; each costs about as much as the first.
        project candidates: u32 = 1, 1..=8;
        /// The sampler's temperature; `0` takes the likeliest token every time.
        project temperature: f64 = 0.0, 0..=2;
        /// Show suggestions that no language server has checked (their verdict is *unknown*).
        project show_unchecked: bool = true;
        /// Show nothing but suggestions that the language server has found *clean*: none that it has not seen, and none whose findings may yet go away as you write on.
        project only_clean: bool = false;
        /// Show suggestions that the language server objects to, when no other is left (their verdict is *findings*).
        project show_findings: bool = false;
        /// Withhold suggestions that nobody has asked for and that the model is not sure of: with `low`, of those that are shown about two in five are what the author writes, with `high` three in five; `off` shows all. This was learned for the default model; of other models' suggestions none is withheld.
        project withhold: Withhold = Withhold::Low;
        /// Blend what the workspace's and the document's own tokens foretell into what the model says: it knows the names that are used here. A server's model (`model.remote_url`) is alone in any case.
        project mixture: bool = true;
    }

    /// The workspace: what its other files say helps the model at the cursor. They are read in the background, as git would see them, and kept in memory alone; hidden files, secrets, links and what is not code are left out.
    workspace: Workspace {
        /// Read it. Nothing of it is ever sent to a server (`model.remote_url`).
        project index: bool = true;
        /// The most files of one workspace that are remembered.
        user files_max: u32 = 20000, 1..=1000000;
        /// The most memory that what is remembered may take, in MiB; beyond it files are left out, and the workspace used last stays.
        user memory_max_mib: u32 = 64, 1..=65536;
    }

    /// The fix of a diagnostic.
    fix: Fix {
        /// How long a fix may search, in milliseconds.
        project deadline_ms: u32 = 10000, 100..=600000;
        /// The most candidates that are checked for one fix.
        project checks_max: u32 = 48, 1..=500;
        /// How often the model rewrites the offending lines.
        project regenerations: u32 = 6, 0..=50;
    }

    /// Twins: second, quiet instances of the language servers, which check what nobody has typed yet.
    twin: Twin {
        /// Start twins. Without them only servers that may be leased are asked, and every other verdict is *unknown*.
        project enabled: bool = true;
        /// Who is shown what nobody has typed yet: `twin` a second instance, `lease` the user's own server while nobody uses it, `auto` whichever is fit for it by memory and pace, `off` nobody.
        project speculation: Speculation = Speculation::Auto;
        /// The most memory that all twins together may take, in MiB; the least recently used one is stopped first, and one that is larger alone is not started again. `0`: no limit. Where the system does not tell how much memory processes take, there is no limit either.
        user memory_max_mib: u32 = 3072, 0..=1048576;
        /// The most twins that run at once; the least recently used one is stopped first.
        user instances_max: u32 = 4, 1..=64;
        /// How long one check may take, in milliseconds; after that its verdict is *unknown*.
        project check_deadline_ms: u32 = 1500, 20..=60000;
        /// How long a twin may take to start, in milliseconds.
        project start_deadline_ms: u32 = 15000, 100..=600000;
        /// A twin that nobody has asked for this many seconds is stopped.
        user idle_s: u32 = 900, 5..=86400;
    }

    /// Language servers: those that editors start, and those that are used where none has (`demolish complete`, `demolish fix`).
    servers: Servers {
        /// The command of a language's server, by language: `command.python = ["ty", "server"]`. Languages that are not named use their own table.
        user command: BTreeMap<String, Vec<String>> = BTreeMap::new();
        /// The most memory that a language server, wrapped or not, and what it starts may take, in MiB; one that takes more is ended and started again. `0`: three quarters of what the machine has.
        user memory_max_mib: u32 = 0, 0..=16777216;
        /// Let the windows of an editor that want the same of a language server, in the same place, share one process. A window whose text differs gets its own.
        user share: bool = true;
        /// How many seconds a language server is kept after its last window has gone, for the next one. `0`: it ends at once.
        user linger_s: u32 = 0, 0..=86400;
    }

    /// SQL, which is checked against the schema of the project ([how](sql.md)).
    sql: Sql {
        /// The dialect: `auto` tells it by the files of the project.
        project dialect: SqlDialect = SqlDialect::Auto;
        /// The files and folders that hold the schema, relative to the project's root and within it, in their order: `["db/tables.sql", "db/migrations"]`. Empty: the usual places.
        project schema: Vec<String> = Vec::new();
        /// The databases that PostgreSQL's SQL is held against, by the folder of the project: `postgres."/home/me/shop" = "host=/var/run/postgresql dbname=shop"`. Texts are sent there to be parsed, never to be run; only a socket or this machine is asked.
        user postgres: BTreeMap<String, String> = BTreeMap::new();
    }

    /// The daemon.
    daemon: Daemon {
        /// The daemon ends when no editor has been connected for this many seconds.
        user idle_exit_s: u32 = 600, 1..=86400;
    }

    /// The journal, in `$XDG_STATE_HOME/demolish/journal`: what an editor has open, should the machine crash.
    journal: Journal {
        /// Keep it. It stores *the text of open documents* and accepted edits, readable by you alone, and is removed when the editor closes; what a crash leaves is kept for 14 days (`demolish journal`).
        user enabled: bool = true;
    }

    /// The log, in `$XDG_STATE_HOME/demolish`.
    log: Log {
        /// What is written to it.
        user level: LogLevel = LogLevel::Info;
    }

    /// The Neovim plugin: `require("demolish").setup { editor = { … } }`.
    editor: Editor {
        /// The program and its first arguments. If it is not on `$PATH`, the one built in the plugin's own checkout is used.
        editor cmd: Vec<String> = vec!["demolish".to_owned()];
        /// Put the daemon between Neovim and the language servers that are enabled with `vim.lsp.enable` or started with `vim.lsp.start`.
        editor wrap: bool = true;
        /// Names of the language servers to wrap. Empty: all.
        editor wrap_only: Vec<String> = Vec::new();
        /// Names of language servers that are left alone.
        editor wrap_exclude: Vec<String> = Vec::new();
        /// The file types that Demolish's own server is started for.
        editor filetypes: Vec<String> = texts(&["c", "cpp", "go", "javascript", "javascriptreact", "python", "rust", "sql", "typescript", "typescriptreact"]);
        /// What marks the root of a project. The nearest of them counts; `.git` only where there is none of the others.
        editor root_markers: Vec<String> = texts(&["pyproject.toml", "setup.py", "tsconfig.json", "package.json", "Cargo.toml", "go.mod", "compile_commands.json", ".git"]);
        /// Show inline completions while typing. Off: `<Plug>(demolish-trigger)` asks for one.
        editor auto: bool = true;
        /// File types without inline completions while typing.
        editor auto_exclude: Vec<String> = Vec::new();
        /// How long to wait after a keystroke before an inline completion is asked for, in milliseconds.
        editor debounce_ms: u32 = 75, 0..=5000;
        /// Say at the end of the line what the language server thinks of an inline completion.
        editor mark: bool = true;
        /// Hide inline completions while an entry of a completion menu is selected (Neovim's own, blink.cmp's or nvim-cmp's).
        editor hide_behind_menu: bool = true;
        /// Keys for Insert mode, mapped in buffers where Demolish is attached, by what they do: `accept`, `accept_word`, `accept_line`, `next`, `prev`, `dismiss`, `trigger`. Where there is no suggestion, a key does what it did before: `keys.accept = { "<Tab>" }`.
        editor keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    }
}
