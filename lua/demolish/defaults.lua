-- Written from daemon/demolish/src/config.rs by `cargo xtask gen`; edits are lost.

---@class (exact) demolish.Opts
---@field model? demolish.Opts.Model The models that write: directories in MLX format, loaded once for all editors.
---@field complete? demolish.Opts.Complete Inline completion.
---@field workspace? demolish.Opts.Workspace The workspace: what its other files say helps the model at the cursor. They are read in the background, as git would see them, and kept in memory alone; hidden files, secrets, links and what is not code are left out.
---@field fix? demolish.Opts.Fix The fix of a diagnostic.
---@field twin? demolish.Opts.Twin Twins: second, quiet instances of the language servers, which check what nobody has typed yet.
---@field servers? demolish.Opts.Servers Language servers: those that editors start, and those that are used where none has (`demolish complete`, `demolish fix`).
---@field sql? demolish.Opts.Sql SQL, which is checked against the schema of the project ([how](sql.md)).
---@field daemon? demolish.Opts.Daemon The daemon.
---@field journal? demolish.Opts.Journal The journal, in `$XDG_STATE_HOME/demolish/journal`: what an editor has open, should the machine crash.
---@field log? demolish.Opts.Log The log, in `$XDG_STATE_HOME/demolish`.
---@field editor? demolish.Opts.Editor The Neovim plugin: `require("demolish").setup { editor = { … } }`.

---@class (exact) demolish.Config
---@field model demolish.Config.Model The models that write: directories in MLX format, loaded once for all editors.
---@field complete demolish.Config.Complete Inline completion.
---@field workspace demolish.Config.Workspace The workspace: what its other files say helps the model at the cursor. They are read in the background, as git would see them, and kept in memory alone; hidden files, secrets, links and what is not code are left out.
---@field fix demolish.Config.Fix The fix of a diagnostic.
---@field twin demolish.Config.Twin Twins: second, quiet instances of the language servers, which check what nobody has typed yet.
---@field servers demolish.Config.Servers Language servers: those that editors start, and those that are used where none has (`demolish complete`, `demolish fix`).
---@field sql demolish.Config.Sql SQL, which is checked against the schema of the project ([how](sql.md)).
---@field daemon demolish.Config.Daemon The daemon.
---@field journal demolish.Config.Journal The journal, in `$XDG_STATE_HOME/demolish/journal`: what an editor has open, should the machine crash.
---@field log demolish.Config.Log The log, in `$XDG_STATE_HOME/demolish`.
---@field editor demolish.Config.Editor The Neovim plugin: `require("demolish").setup { editor = { … } }`.

---@class (exact) demolish.Opts.Model
---@field enabled? boolean Load a model at all. Without one the proxy works as before, and every feature that needs a model says that it is off.
---@field path? string The model's directory. Not set: the default model that comes with Demolish.
---@field agent_path? string The directory of a second model, for fixes, the agent and the doors; whoever types keeps the first one. Not set: the first one does everything.
---@field hub_url? string The address of the hub that `demolish model pull` takes models from: any server that serves Hugging Face's layout, such as a mirror (`https://…`). A token for it is read from `DEMOLISH_HUB_TOKEN`. Empty: none.
---@field folders? string[] Folders in which `demolish model list` looks for models too, beside the one that `demolish model pull` writes to.
---@field speculation? "auto"|"on"|"off" Compute several tokens at once where they can be guessed, and keep those that the model would have written: `auto` where that has been measured to pay and is the same to the last bit, `on` also where it is the same up to rounding (OpenBLAS, delta nets), `off` never.
---@field draft_path? string The directory of a small model with the same tokenizer that guesses for the big one (`model.agent_path`, or `model.path` where that is the only one). Not set: guesses come from the text alone.
---@field remote_url? string The address of a server with OpenAI's endpoints that runs a model for fixes, the agent and the doors: `http://host:8080`. It goes before `model.agent_path`. Not set: models run on this machine.
---@field remote_model? string The model to ask that server for. Not set: the first that it names.
---@field remote_tokenizer? string The tokenizer.json of that model, or the directory that holds it. Not set: its tokens are taken for bytes, and prompts that need special tokens cannot be made.
---@field remote_key_env? string The environment variable that holds the key which that server wants to be shown.
---@field remote_key_file? string A file that holds the key, where no variable does.
---@field remote_typing? boolean Ask that server for inline completions too.
---@field memory_max_gib? number The most memory that the weights and caches of all models together may take, in GiB; a model that needs more is refused before it is loaded. `0`: what the machine has.
---@field context_max? integer The longest prompt plus answer, in tokens, if that is less than the model's own: a shorter one takes less memory. `0`: the model's own.
---@field kv_bits? 0|4|8 Pack keys and values of the cache into 8 or 4 bits, where the architecture allows it: long contexts take less memory, and are read less exactly. `0`: they are not packed.
---@field idle_unload_min? integer A model that nobody has used for this many minutes is unloaded, and loaded again when somebody needs it. `0`: it stays.
---@field disk_cache_gib? number The most disk space that caches of long prompts may take, in GiB, for each model; they lie below the state's folder, readable for the user alone, and spare the agent from reading its conversation again after a restart. `0`: caches end with the daemon.

---@class (exact) demolish.Config.Model
---@field enabled boolean Load a model at all. Without one the proxy works as before, and every feature that needs a model says that it is off.
---@field path? string The model's directory. Not set: the default model that comes with Demolish.
---@field agent_path? string The directory of a second model, for fixes, the agent and the doors; whoever types keeps the first one. Not set: the first one does everything.
---@field hub_url string The address of the hub that `demolish model pull` takes models from: any server that serves Hugging Face's layout, such as a mirror (`https://…`). A token for it is read from `DEMOLISH_HUB_TOKEN`. Empty: none.
---@field folders string[] Folders in which `demolish model list` looks for models too, beside the one that `demolish model pull` writes to.
---@field speculation "auto"|"on"|"off" Compute several tokens at once where they can be guessed, and keep those that the model would have written: `auto` where that has been measured to pay and is the same to the last bit, `on` also where it is the same up to rounding (OpenBLAS, delta nets), `off` never.
---@field draft_path? string The directory of a small model with the same tokenizer that guesses for the big one (`model.agent_path`, or `model.path` where that is the only one). Not set: guesses come from the text alone.
---@field remote_url? string The address of a server with OpenAI's endpoints that runs a model for fixes, the agent and the doors: `http://host:8080`. It goes before `model.agent_path`. Not set: models run on this machine.
---@field remote_model? string The model to ask that server for. Not set: the first that it names.
---@field remote_tokenizer? string The tokenizer.json of that model, or the directory that holds it. Not set: its tokens are taken for bytes, and prompts that need special tokens cannot be made.
---@field remote_key_env? string The environment variable that holds the key which that server wants to be shown.
---@field remote_key_file? string A file that holds the key, where no variable does.
---@field remote_typing boolean Ask that server for inline completions too.
---@field memory_max_gib number The most memory that the weights and caches of all models together may take, in GiB; a model that needs more is refused before it is loaded. `0`: what the machine has.
---@field context_max integer The longest prompt plus answer, in tokens, if that is less than the model's own: a shorter one takes less memory. `0`: the model's own.
---@field kv_bits 0|4|8 Pack keys and values of the cache into 8 or 4 bits, where the architecture allows it: long contexts take less memory, and are read less exactly. `0`: they are not packed.
---@field idle_unload_min integer A model that nobody has used for this many minutes is unloaded, and loaded again when somebody needs it. `0`: it stays.
---@field disk_cache_gib number The most disk space that caches of long prompts may take, in GiB, for each model; they lie below the state's folder, readable for the user alone, and spare the agent from reading its conversation again after a restart. `0`: caches end with the daemon.

---@class (exact) demolish.Opts.Complete
---@field enabled? boolean Offer inline completions.
---@field deadline_ms? integer How long a completion may take, in milliseconds; what is there by then is shown with the verdict it has.
---@field lines_max? integer The most lines that one suggestion may have. `0` lets the place decide: one in the middle of a line, up to four at the start of a block.
---@field tokens_max? integer The most tokens that one suggestion may have.
---@field checks_max? integer The most questions to the language server for one suggestion.
---@field candidates? integer How many suggestions are offered to choose from; each costs about as much as the first.
---@field temperature? number The sampler's temperature; `0` takes the likeliest token every time.
---@field show_unchecked? boolean Show suggestions that no language server has checked (their verdict is *unknown*).
---@field only_clean? boolean Show nothing but suggestions that the language server has found *clean*: none that it has not seen, and none whose findings may yet go away as you write on.
---@field show_findings? boolean Show suggestions that the language server objects to, when no other is left (their verdict is *findings*).
---@field withhold? "off"|"low"|"high" Withhold suggestions that nobody has asked for and that the model is not sure of: with `low`, of those that are shown about two in five are what the author writes, with `high` three in five; `off` shows all. This was learned for the default model; of other models' suggestions none is withheld.
---@field mixture? boolean Blend what the workspace's and the document's own tokens foretell into what the model says: it knows the names that are used here. A server's model (`model.remote_url`) is alone in any case.

---@class (exact) demolish.Config.Complete
---@field enabled boolean Offer inline completions.
---@field deadline_ms integer How long a completion may take, in milliseconds; what is there by then is shown with the verdict it has.
---@field lines_max integer The most lines that one suggestion may have. `0` lets the place decide: one in the middle of a line, up to four at the start of a block.
---@field tokens_max integer The most tokens that one suggestion may have.
---@field checks_max integer The most questions to the language server for one suggestion.
---@field candidates integer How many suggestions are offered to choose from; each costs about as much as the first.
---@field temperature number The sampler's temperature; `0` takes the likeliest token every time.
---@field show_unchecked boolean Show suggestions that no language server has checked (their verdict is *unknown*).
---@field only_clean boolean Show nothing but suggestions that the language server has found *clean*: none that it has not seen, and none whose findings may yet go away as you write on.
---@field show_findings boolean Show suggestions that the language server objects to, when no other is left (their verdict is *findings*).
---@field withhold "off"|"low"|"high" Withhold suggestions that nobody has asked for and that the model is not sure of: with `low`, of those that are shown about two in five are what the author writes, with `high` three in five; `off` shows all. This was learned for the default model; of other models' suggestions none is withheld.
---@field mixture boolean Blend what the workspace's and the document's own tokens foretell into what the model says: it knows the names that are used here. A server's model (`model.remote_url`) is alone in any case.

---@class (exact) demolish.Opts.Workspace
---@field index? boolean Read it. Nothing of it is ever sent to a server (`model.remote_url`).
---@field files_max? integer The most files of one workspace that are remembered.
---@field memory_max_mib? integer The most memory that what is remembered may take, in MiB; beyond it files are left out, and the workspace used last stays.

---@class (exact) demolish.Config.Workspace
---@field index boolean Read it. Nothing of it is ever sent to a server (`model.remote_url`).
---@field files_max integer The most files of one workspace that are remembered.
---@field memory_max_mib integer The most memory that what is remembered may take, in MiB; beyond it files are left out, and the workspace used last stays.

---@class (exact) demolish.Opts.Fix
---@field deadline_ms? integer How long a fix may search, in milliseconds.
---@field checks_max? integer The most candidates that are checked for one fix.
---@field regenerations? integer How often the model rewrites the offending lines.

---@class (exact) demolish.Config.Fix
---@field deadline_ms integer How long a fix may search, in milliseconds.
---@field checks_max integer The most candidates that are checked for one fix.
---@field regenerations integer How often the model rewrites the offending lines.

---@class (exact) demolish.Opts.Twin
---@field enabled? boolean Start twins. Without them only servers that may be leased are asked, and every other verdict is *unknown*.
---@field speculation? "auto"|"twin"|"lease"|"off" Who is shown what nobody has typed yet: `twin` a second instance, `lease` the user's own server while nobody uses it, `auto` whichever is fit for it by memory and pace, `off` nobody.
---@field memory_max_mib? integer The most memory that all twins together may take, in MiB; the least recently used one is stopped first, and one that is larger alone is not started again. `0`: no limit. Where the system does not tell how much memory processes take, there is no limit either.
---@field instances_max? integer The most twins that run at once; the least recently used one is stopped first.
---@field check_deadline_ms? integer How long one check may take, in milliseconds; after that its verdict is *unknown*.
---@field start_deadline_ms? integer How long a twin may take to start, in milliseconds.
---@field idle_s? integer A twin that nobody has asked for this many seconds is stopped.

---@class (exact) demolish.Config.Twin
---@field enabled boolean Start twins. Without them only servers that may be leased are asked, and every other verdict is *unknown*.
---@field speculation "auto"|"twin"|"lease"|"off" Who is shown what nobody has typed yet: `twin` a second instance, `lease` the user's own server while nobody uses it, `auto` whichever is fit for it by memory and pace, `off` nobody.
---@field memory_max_mib integer The most memory that all twins together may take, in MiB; the least recently used one is stopped first, and one that is larger alone is not started again. `0`: no limit. Where the system does not tell how much memory processes take, there is no limit either.
---@field instances_max integer The most twins that run at once; the least recently used one is stopped first.
---@field check_deadline_ms integer How long one check may take, in milliseconds; after that its verdict is *unknown*.
---@field start_deadline_ms integer How long a twin may take to start, in milliseconds.
---@field idle_s integer A twin that nobody has asked for this many seconds is stopped.

---@class (exact) demolish.Opts.Servers
---@field command? table<string, string[]> The command of a language's server, by language: `command.python = ["ty", "server"]`. Languages that are not named use their own table.
---@field memory_max_mib? integer The most memory that a language server, wrapped or not, and what it starts may take, in MiB; one that takes more is ended and started again. `0`: three quarters of what the machine has.
---@field share? boolean Let the windows of an editor that want the same of a language server, in the same place, share one process. A window whose text differs gets its own.
---@field linger_s? integer How many seconds a language server is kept after its last window has gone, for the next one. `0`: it ends at once.

---@class (exact) demolish.Config.Servers
---@field command table<string, string[]> The command of a language's server, by language: `command.python = ["ty", "server"]`. Languages that are not named use their own table.
---@field memory_max_mib integer The most memory that a language server, wrapped or not, and what it starts may take, in MiB; one that takes more is ended and started again. `0`: three quarters of what the machine has.
---@field share boolean Let the windows of an editor that want the same of a language server, in the same place, share one process. A window whose text differs gets its own.
---@field linger_s integer How many seconds a language server is kept after its last window has gone, for the next one. `0`: it ends at once.

---@class (exact) demolish.Opts.Sql
---@field dialect? "auto"|"sqlite"|"postgres" The dialect: `auto` tells it by the files of the project.
---@field schema? string[] The files and folders that hold the schema, relative to the project's root and within it, in their order: `["db/tables.sql", "db/migrations"]`. Empty: the usual places.
---@field postgres? table<string, string> The databases that PostgreSQL's SQL is held against, by the folder of the project: `postgres."/home/me/shop" = "host=/var/run/postgresql dbname=shop"`. Texts are sent there to be parsed, never to be run; only a socket or this machine is asked.

---@class (exact) demolish.Config.Sql
---@field dialect "auto"|"sqlite"|"postgres" The dialect: `auto` tells it by the files of the project.
---@field schema string[] The files and folders that hold the schema, relative to the project's root and within it, in their order: `["db/tables.sql", "db/migrations"]`. Empty: the usual places.
---@field postgres table<string, string> The databases that PostgreSQL's SQL is held against, by the folder of the project: `postgres."/home/me/shop" = "host=/var/run/postgresql dbname=shop"`. Texts are sent there to be parsed, never to be run; only a socket or this machine is asked.

---@class (exact) demolish.Opts.Daemon
---@field idle_exit_s? integer The daemon ends when no editor has been connected for this many seconds.

---@class (exact) demolish.Config.Daemon
---@field idle_exit_s integer The daemon ends when no editor has been connected for this many seconds.

---@class (exact) demolish.Opts.Journal
---@field enabled? boolean Keep it. It stores *the text of open documents* and accepted edits, readable by you alone, and is removed when the editor closes; what a crash leaves is kept for 14 days (`demolish journal`).

---@class (exact) demolish.Config.Journal
---@field enabled boolean Keep it. It stores *the text of open documents* and accepted edits, readable by you alone, and is removed when the editor closes; what a crash leaves is kept for 14 days (`demolish journal`).

---@class (exact) demolish.Opts.Log
---@field level? "error"|"warn"|"info"|"debug"|"trace" What is written to it.

---@class (exact) demolish.Config.Log
---@field level "error"|"warn"|"info"|"debug"|"trace" What is written to it.

---@class (exact) demolish.Opts.Editor
---@field cmd? string[] The program and its first arguments. If it is not on `$PATH`, the one built in the plugin's own checkout is used.
---@field wrap? boolean Put the daemon between Neovim and the language servers that are enabled with `vim.lsp.enable` or started with `vim.lsp.start`.
---@field wrap_only? string[] Names of the language servers to wrap. Empty: all.
---@field wrap_exclude? string[] Names of language servers that are left alone.
---@field filetypes? string[] The file types that Demolish's own server is started for.
---@field root_markers? string[] What marks the root of a project. The nearest of them counts; `.git` only where there is none of the others.
---@field auto? boolean Show inline completions while typing. Off: `<Plug>(demolish-trigger)` asks for one.
---@field auto_exclude? string[] File types without inline completions while typing.
---@field debounce_ms? integer How long to wait after a keystroke before an inline completion is asked for, in milliseconds.
---@field mark? boolean Say at the end of the line what the language server thinks of an inline completion.
---@field hide_behind_menu? boolean Hide inline completions while an entry of a completion menu is selected (Neovim's own, blink.cmp's or nvim-cmp's).
---@field keys? table<string, string[]> Keys for Insert mode, mapped in buffers where Demolish is attached, by what they do: `accept`, `accept_word`, `accept_line`, `next`, `prev`, `dismiss`, `trigger`. Where there is no suggestion, a key does what it did before: `keys.accept = { "<Tab>" }`.

---@class (exact) demolish.Config.Editor
---@field cmd string[] The program and its first arguments. If it is not on `$PATH`, the one built in the plugin's own checkout is used.
---@field wrap boolean Put the daemon between Neovim and the language servers that are enabled with `vim.lsp.enable` or started with `vim.lsp.start`.
---@field wrap_only string[] Names of the language servers to wrap. Empty: all.
---@field wrap_exclude string[] Names of language servers that are left alone.
---@field filetypes string[] The file types that Demolish's own server is started for.
---@field root_markers string[] What marks the root of a project. The nearest of them counts; `.git` only where there is none of the others.
---@field auto boolean Show inline completions while typing. Off: `<Plug>(demolish-trigger)` asks for one.
---@field auto_exclude string[] File types without inline completions while typing.
---@field debounce_ms integer How long to wait after a keystroke before an inline completion is asked for, in milliseconds.
---@field mark boolean Say at the end of the line what the language server thinks of an inline completion.
---@field hide_behind_menu boolean Hide inline completions while an entry of a completion menu is selected (Neovim's own, blink.cmp's or nvim-cmp's).
---@field keys table<string, string[]> Keys for Insert mode, mapped in buffers where Demolish is attached, by what they do: `accept`, `accept_word`, `accept_line`, `next`, `prev`, `dismiss`, `trigger`. Where there is no suggestion, a key does what it did before: `keys.accept = { "<Tab>" }`.

---@type demolish.Config
return {
  model = {
    enabled = true,
    path = nil,
    agent_path = nil,
    hub_url = "",
    folders = {},
    speculation = "auto",
    draft_path = nil,
    remote_url = nil,
    remote_model = nil,
    remote_tokenizer = nil,
    remote_key_env = nil,
    remote_key_file = nil,
    remote_typing = false,
    memory_max_gib = 0,
    context_max = 0,
    kv_bits = 0,
    idle_unload_min = 60,
    disk_cache_gib = 8,
  },
  complete = {
    enabled = true,
    deadline_ms = 1500,
    lines_max = 0,
    tokens_max = 96,
    checks_max = 6,
    candidates = 1,
    temperature = 0,
    show_unchecked = true,
    only_clean = false,
    show_findings = false,
    withhold = "low",
    mixture = true,
  },
  workspace = {
    index = true,
    files_max = 20000,
    memory_max_mib = 64,
  },
  fix = {
    deadline_ms = 10000,
    checks_max = 48,
    regenerations = 6,
  },
  twin = {
    enabled = true,
    speculation = "auto",
    memory_max_mib = 3072,
    instances_max = 4,
    check_deadline_ms = 1500,
    start_deadline_ms = 15000,
    idle_s = 900,
  },
  servers = {
    command = {},
    memory_max_mib = 0,
    share = true,
    linger_s = 0,
  },
  sql = {
    dialect = "auto",
    schema = {},
    postgres = {},
  },
  daemon = {
    idle_exit_s = 600,
  },
  journal = {
    enabled = true,
  },
  log = {
    level = "info",
  },
  editor = {
    cmd = { "demolish" },
    wrap = true,
    wrap_only = {},
    wrap_exclude = {},
    filetypes = { "c", "cpp", "go", "javascript", "javascriptreact", "python", "rust", "sql", "typescript", "typescriptreact" },
    root_markers = { "pyproject.toml", "setup.py", "tsconfig.json", "package.json", "Cargo.toml", "go.mod", "compile_commands.json", ".git" },
    auto = true,
    auto_exclude = {},
    debounce_ms = 75,
    mark = true,
    hide_behind_menu = true,
    keys = {},
  },
}
