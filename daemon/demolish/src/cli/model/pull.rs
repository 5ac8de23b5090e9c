//! `demolish model pull`: brings a model from the hub that the user names.

use std::path::PathBuf;

use serde_json::json;

use super::super::{Exit, Failure, Outcome, block_on, clock, print, print_json};
use super::meter::Meter;
use super::settings;
use crate::env_vars;
use crate::model::hub::{self, Note, Patience, Pull, Pulled, Token, Trouble, Url};

/// Bring a model from a hub that serves Hugging Face's layout; what was cut off goes on where it was
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The hub is the one of --from, or of the setting `model.hub_url` (DEMOLISH_MODEL_HUB_URL). A token for it is read from
DEMOLISH_HUB_TOKEN, and goes to that server alone. Files are compared with the checksums that the hub tells; a file has its
name only when it is whole, and demolish.manifest.json is written last. Only what a model needs is taken, and never pickles.

Examples:
  demolish model pull org/name
  demolish model pull org/name@v1.0 --from https://mirror.example/hub --to ~/models/name
  demolish model pull org/name --include 'config.json' --include '*-00001-of-*.safetensors'

To undo it: demolish model remove org/name
Exits with 1 when a checksum is wrong or it was interrupted, 2 when the hub refuses, 3 when hub or disk are not up to it.")]
pub(super) struct Args {
    /// The repository, and a branch, tag or commit of it [default: main]
    #[arg(value_name = "REPO[@REVISION]", value_parser = repo)]
    repo: (String, String),
    /// The hub's address
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The folder to write [default: demolish/models/REPO below $XDG_DATA_HOME]
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Take the files that fit instead of what a model needs (repeatable)
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
    /// Print objects, one on each line: listed, progress, file, done
    #[arg(long)]
    pub(super) json: bool,
}

fn repo(text: &str) -> Result<(String, String), String> {
    let (repo, revision) = text.split_once('@').unwrap_or((text, "main"));
    let is_word = |word: &str| {
        !word.is_empty()
            && word != "."
            && word != ".."
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<&str> = repo.split('/').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_word(part)) {
        return Err("a repository is called ORG/NAME".to_owned());
    }
    if !revision.split('/').all(is_word) {
        return Err("a revision is a branch, a tag or a commit".to_owned());
    }
    Ok((repo.to_owned(), revision.to_owned()))
}

impl Args {
    fn pull(&self) -> Result<Pull, Failure> {
        let settings = settings();
        let hub = self.from.as_deref().unwrap_or(&settings.hub_url);
        if hub.is_empty() {
            return Err(Failure::bad(
                "there is no hub to pull from; set `model.hub_url` (or DEMOLISH_MODEL_HUB_URL) to the address of a hub \
                 that serves Hugging Face's layout, or name it with --from",
            ));
        }
        let (repo, revision) = self.repo.clone();
        let folder = match revision.as_str() {
            "main" => repo.clone(),
            revision => format!("{repo}@{}", revision.replace('/', "-")),
        };
        let own = || {
            let models = env_vars::models_dir().ok_or_else(|| {
                Failure::missing("neither XDG_DATA_HOME nor HOME is set; name a folder with --to")
            })?;
            Ok(models.join(folder))
        };
        Ok(Pull {
            repo,
            revision,
            hub: Url::parse(hub).map_err(Failure::bad)?,
            token: env_vars::hub_token().map(Token),
            dir: self.to.clone().map_or_else(own, Ok)?,
            include: self.include.clone(),
            patience: Patience::default(),
        })
    }
}

pub(super) fn run(args: &Args) -> Outcome {
    let pull = args.pull()?;
    let mut meter = Meter::new("pulling", args.json);
    let pulled = block_on(async {
        let mut told = |note: Note<'_>| tell(&mut meter, &pull, note);
        tokio::select! {
            pulled = hub::pull(&pull, &mut told) => Some(pulled),
            _ = tokio::signal::ctrl_c() => None,
        }
    })?;
    meter.clear();
    let again = || {
        let (repo, revision) = (&pull.repo, &pull.revision);
        format!("the same command goes on ({repo}@{revision} into {})", pull.dir.display())
    };
    match pulled {
        Some(Ok(pulled)) => done(args, &pull, &pulled),
        Some(Err(trouble)) => {
            let message = format!("cannot pull {}: {trouble}", pull.repo);
            Err(match trouble {
                Trouble::Refused(_) => Failure::bad(message),
                Trouble::Wrong(_) => Failure { exit: Exit::No, message },
                Trouble::Away(_) | Trouble::Passing(_) => Failure::missing(message),
            })
        }
        None => Err(Failure {
            exit: Exit::No,
            message: format!("interrupted; what is there is kept, and {}", again()),
        }),
    }
}

fn tell(meter: &mut Meter, pull: &Pull, note: Note<'_>) {
    match note {
        Note::Listed { commit, files, bytes, there } if meter.is_json() => print_json(&json!({
            "event": "listed", "repo": pull.repo, "commit": commit, "path": pull.dir,
            "files": files, "bytes": bytes, "there": there,
        })),
        Note::File { name, bytes } if meter.is_json() => {
            print_json(&json!({"event": "file", "name": name, "bytes": bytes}));
        }
        Note::Listed { commit, files, bytes, there } => {
            let begun = match there {
                0 => String::new(),
                there => format!(", of which {} are there", clock::bytes(there)),
            };
            meter.say(&format!(
                "{} at {}: {files} files, {}{begun}, into {}",
                pull.repo,
                commit.get(..10).unwrap_or(commit),
                clock::bytes(bytes),
                pull.dir.display()
            ));
        }
        Note::File { name, bytes } => meter.say(&format!("  {name}  {}", clock::bytes(bytes))),
        Note::Progress { done, total } => meter.tell(done, total, ""),
    }
}

fn done(args: &Args, pull: &Pull, pulled: &Pulled) -> Outcome {
    let manifest = &pulled.manifest;
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    if args.json {
        print_json(&json!({
            "event": "done", "repo": manifest.repo, "commit": manifest.commit, "path": pull.dir,
            "files": manifest.files, "bytes": bytes, "was_there": pulled.was_there,
        }));
        return Ok(Exit::Done);
    }
    let how = if pulled.was_there { "was there already" } else { "is there" };
    let dir = pull.dir.display();
    print(&format!(
        "{} {how}, whole and checked: {dir} ({})\n\
         next: `demolish model verify {dir}`, or set `model.path` to it; `demolish model remove {}` undoes it\n",
        manifest.repo,
        clock::bytes(bytes),
        manifest.repo,
    ));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_and_revisions() {
        let pair = |one: &str, other: &str| Ok((one.to_owned(), other.to_owned()));
        assert_eq!(repo("org/name"), pair("org/name", "main"));
        assert_eq!(repo("name@v1.0"), pair("name", "v1.0"));
        assert_eq!(repo("org/name@refs/pr/1"), pair("org/name", "refs/pr/1"));
        for wrong in ["", "a/b/c", "../x", "a b", "a/..", "a@", "a@../x", "/a", "https://x"] {
            assert!(repo(wrong).is_err(), "{wrong}");
        }
    }
}
