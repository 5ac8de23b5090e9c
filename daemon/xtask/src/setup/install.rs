//! The place that is being set up: where packages lie, how they become visible, and that only one set-up runs at a time.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::stamp;
use super::table::{Link, Step};
use crate::shell::Shell;

/// `.tools/` and its inner folders.
pub(crate) struct Site {
    pub(crate) tools: PathBuf,
}

impl Site {
    pub(crate) fn new(tools: PathBuf) -> Self {
        Self { tools }
    }

    pub(crate) fn create(&self) -> Result<()> {
        for folder in ["bin", "pkgs", "stamps", "cache", "log"] {
            let path = self.tools.join(folder);
            fs::create_dir_all(&path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        Ok(())
    }

    /// Waits until no other set-up works here. The lock ends with the file, so a crash leaves none behind.
    pub(crate) fn lock(&self, quiet: bool) -> Result<File> {
        let file = File::create(self.tools.join("lock")).context("cannot create the lock file")?;
        if file.try_lock().is_err() {
            if !quiet {
                println!("setup: another set-up is running here; waiting for it");
            }
            file.lock().context("cannot wait for the other set-up")?;
        }
        Ok(file)
    }

    /// The final folder of a step's package. It is named for the recipe, so that a new recipe never touches an old folder.
    pub(crate) fn package(&self, step: &Step) -> PathBuf {
        self.tools.join("pkgs").join(format!("{}-{}", step.name, &stamp::recipe(step, self)[..8]))
    }

    /// An empty folder in the package's place; what an interrupted run left there is gone.
    pub(crate) fn empty_package(&self, step: &Step) -> Result<PathBuf> {
        let path = self.package(step);
        remove_folder(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Where a step keeps downloads between tries.
    pub(crate) fn cache(&self, step: &Step) -> Result<PathBuf> {
        let path = self.tools.join("cache").join(step.name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    pub(crate) fn stamp(&self, step: &Step) -> PathBuf {
        self.tools.join("stamps").join(step.name)
    }

    pub(crate) fn log(&self, step: &Step) -> PathBuf {
        self.log_of(step.name)
    }

    pub(crate) fn log_of(&self, step: &str) -> PathBuf {
        self.tools.join("log").join(format!("{step}.log"))
    }

    /// Whether everything that the step makes visible is there.
    pub(crate) fn links_resolve(&self, step: &Step) -> bool {
        step.links.iter().all(|link| match link {
            Link::To { at, .. } | Link::Wrapper { at, .. } | Link::Script { at, .. } => {
                self.tools.join(at).exists()
            }
        })
    }

    /// Makes the package visible: every link is made aside and renamed into place.
    pub(crate) fn link(&self, step: &Step) -> Result<()> {
        let package = self.package(step);
        for link in step.links {
            let (at, aside) = match link {
                Link::To { at, to } => (at, self.make_symlink(at, &package.join(substitute(to)))?),
                Link::Wrapper { at, to, env } => (at, self.make_wrapper(at, &package, to, env)?),
                Link::Script { at, by, to } => (at, self.make_script(at, &package, by, to)?),
            };
            self.swap_in(&aside, &self.tools.join(at))?;
        }
        Ok(())
    }

    fn make_symlink(&self, at: &str, target: &Path) -> Result<PathBuf> {
        ensure!(target.exists(), "the package has no {}", target.display());
        let aside = self.aside(at);
        let _ = fs::remove_file(&aside);
        let below = self.tools.join(at);
        let target =
            relative_to(target, below.parent().context("a link lies in a folder")?, &self.tools);
        symlink(&target, &aside).with_context(|| format!("cannot link {}", aside.display()))?;
        Ok(aside)
    }

    fn make_wrapper(
        &self,
        at: &str,
        package: &Path,
        to: &str,
        env: &[(&str, &str)],
    ) -> Result<PathBuf> {
        let program = package.join(to);
        ensure!(program.exists(), "the package has no {to}");
        let folder = package.display().to_string();
        let sets: String = env
            .iter()
            .map(|(name, value)| format!("export {name}=\"{}\"\n", value.replace("{}", &folder)))
            .collect();
        self.make_executable(at, &format!("{sets}exec \"{}\" \"$@\"\n", program.display()))
    }

    fn make_script(&self, at: &str, package: &Path, by: &str, to: &str) -> Result<PathBuf> {
        let (program, script) = (self.tools.join(by), package.join(to));
        ensure!(program.exists(), "there is no {by} to run {to} with");
        ensure!(script.exists(), "the package has no {to}");
        let line = format!("exec \"{}\" \"{}\" \"$@\"\n", program.display(), script.display());
        self.make_executable(at, &line)
    }

    fn make_executable(&self, at: &str, lines: &str) -> Result<PathBuf> {
        let aside = self.aside(at);
        fs::write(&aside, format!("#!/bin/sh\n{lines}"))?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755))?;
        Ok(aside)
    }

    fn aside(&self, at: &str) -> PathBuf {
        self.tools.join("cache").join(format!("{}.new", at.replace('/', "-")))
    }

    /// Renames `aside` over `at`. A folder that somebody put there by hand is moved away first.
    fn swap_in(&self, aside: &Path, at: &Path) -> Result<()> {
        if at.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
            let name = at.file_name().context("a link has a name")?.to_string_lossy().into_owned();
            let away = self.tools.join("pkgs").join(format!("{name}-by-hand"));
            remove_folder(&away)?;
            fs::rename(at, &away).with_context(|| format!("cannot move {} away", at.display()))?;
        }
        fs::rename(aside, at).with_context(|| format!("cannot put {} into place", at.display()))
    }

    /// Runs the step's program and looks at what it says.
    pub(crate) fn probe(&self, step: &Step) -> Result<()> {
        let Some(probe) = &step.probe else { return Ok(()) };
        let said = Shell::new(self.tools.join(probe.program))
            .args(probe.arguments)
            .log(&self.log(step))
            .read()?;
        ensure!(
            said.contains(probe.says),
            "{} says {:?}, which lacks {:?}",
            probe.program,
            said.trim(),
            probe.says
        );
        Ok(())
    }

    /// Downloads of a finished step are not kept, and neither are packages of its earlier recipes. Best effort.
    pub(crate) fn sweep(&self, step: &Step) {
        let _ = fs::remove_dir_all(self.tools.join("cache").join(step.name));
        let current = self.package(step);
        let Ok(entries) = fs::read_dir(self.tools.join("pkgs")) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| *path != current) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let hash = name.strip_prefix(step.name).and_then(|rest| rest.strip_prefix('-'));
            if hash
                .is_some_and(|hash| hash.len() == 8 && hash.chars().all(|c| c.is_ascii_hexdigit()))
            {
                let _ = fs::remove_dir_all(path);
            }
        }
    }
}

/// `target` as seen from `folder`, when both lie in `tools`: the whole `.tools/` can then be looked at through any path.
fn relative_to(target: &Path, folder: &Path, tools: &Path) -> PathBuf {
    let (Ok(target_below), Ok(folder_below)) =
        (target.strip_prefix(tools), folder.strip_prefix(tools))
    else {
        return target.to_path_buf();
    };
    let mut path: PathBuf = folder_below.components().map(|_| "..").collect();
    path.extend(target_below.components());
    path
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// npm's word for this platform, in paths of the table.
fn substitute(path: &str) -> String {
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    path.replace("{npm}", &format!("{os}-{arch}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::table::{Action, Probe, Purpose};

    const STEP: Step = Step {
        name: "sample",
        what: "a sample",
        version: "1",
        purposes: &[Purpose::Test],
        action: Action::Wheels(&["sample==1"]),
        links: &[
            Link::To { at: "sample", to: "" },
            Link::Wrapper { at: "bin/sample", to: "run.sh", env: &[("WHERE", "{}/share")] },
            Link::Script { at: "bin/again", by: "bin/sample", to: "run.sh" },
        ],
        probe: Some(Probe { program: "bin/sample", arguments: &["now"], says: "share now" }),
        remedy: "none",
    };

    /// A place with the sample's package, as its installer would leave it.
    fn site() -> (tempfile::TempDir, Site) {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::new(folder.path().canonicalize().unwrap());
        site.create().unwrap();
        let program = site.empty_package(&STEP).unwrap().join("run.sh");
        fs::write(&program, "#!/bin/sh\necho \"$WHERE $1\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, site)
    }

    #[test]
    fn a_package_becomes_visible_and_runs() {
        let (_folder, site) = site();
        assert!(!site.links_resolve(&STEP));
        site.link(&STEP).unwrap();
        assert!(site.links_resolve(&STEP));
        site.probe(&STEP).unwrap();
        let again = Shell::new(site.tools.join("bin/again")).read().unwrap();
        let script = site.package(&STEP).join("run.sh").display().to_string();
        assert!(again.trim_end().ends_with(&script), "{again}: the program gets the script");
        let target = fs::read_link(site.tools.join("sample")).unwrap();
        assert!(target.is_relative() && target.starts_with("pkgs"), "{target:?}");
    }

    #[test]
    fn what_was_put_there_by_hand_is_moved_away_and_kept() {
        let (_folder, site) = site();
        fs::create_dir(site.tools.join("sample")).unwrap();
        fs::write(site.tools.join("sample/mine"), "").unwrap();
        site.link(&STEP).unwrap();
        assert!(site.tools.join("sample/run.sh").exists());
        assert!(site.tools.join("pkgs/sample-by-hand/mine").exists());
    }

    #[test]
    fn a_step_is_done_only_with_its_stamp_and_its_links() {
        let (_folder, site) = site();
        site.link(&STEP).unwrap();
        assert!(!stamp::matches(&STEP, &site));
        stamp::write(&STEP, &site).unwrap();
        assert!(stamp::matches(&STEP, &site));
        let newer = Step { action: Action::Wheels(&["sample==2"]), ..STEP };
        assert!(!stamp::matches(&newer, &site), "another recipe is due");
        fs::remove_dir_all(site.package(&STEP)).unwrap();
        assert!(!site.links_resolve(&STEP), "a package that was removed is due");
    }

    #[test]
    fn sweeping_removes_earlier_recipes_alone() {
        let (_folder, site) = site();
        let [old, other] =
            ["sample-0123abcd", "sample-other"].map(|name| site.tools.join("pkgs").join(name));
        fs::create_dir(&old).unwrap();
        fs::create_dir(&other).unwrap();
        site.sweep(&STEP);
        assert!(!old.exists() && other.exists() && site.package(&STEP).exists());
    }

    #[test]
    fn links_are_relative_inside_tools() {
        let seen = |target: &str, folder: &str| {
            relative_to(Path::new(target), Path::new(folder), Path::new("/r/.tools"))
        };
        assert_eq!(
            seen("/r/.tools/pkgs/ty-1/bin/ty", "/r/.tools/bin"),
            Path::new("../pkgs/ty-1/bin/ty")
        );
        assert_eq!(seen("/r/.tools/pkgs/mlx-1", "/r/.tools"), Path::new("pkgs/mlx-1"));
        assert_eq!(seen("/usr/bin/x", "/r/.tools/bin"), Path::new("/usr/bin/x"));
    }
}
