//! Which folder is the workspace of a document.

use std::path::{Path, PathBuf};

use lang::Language;

use crate::env_vars;

/// The workspace of a file: the folder that its editor has open, if it holds the file, else the repository or the project that the file is
/// in. `None`: there is none, or it is the home folder or one above it, which nobody meant.
pub(super) fn of(
    path: &Path,
    language: Option<&'static Language>,
    editors: Option<&Path>,
) -> Option<PathBuf> {
    let editors = editors.filter(|root| path.starts_with(root) && is_fit(root));
    if let Some(root) = editors {
        return Some(root.to_owned());
    }
    let folder = path.parent()?;
    let marked = folder.ancestors().find(|dir| dir.join(".git").exists());
    let project = || {
        let markers = language?.root_markers();
        folder.ancestors().find(|dir| markers.iter().any(|marker| dir.join(marker).exists()))
    };
    marked.or_else(project).filter(|root| is_fit(root)).map(Path::to_owned)
}

fn is_fit(root: &Path) -> bool {
    let home = env_vars::home();
    root.is_absolute()
        && root.parent().is_some()
        && !home.is_some_and(|home| home.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_editor_s_folder_counts_before_the_repository_and_that_before_the_project() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("repo/.git")).unwrap();
        std::fs::create_dir_all(at("repo/pkg/src")).unwrap();
        std::fs::create_dir_all(at("alone/src")).unwrap();
        std::fs::File::create(at("repo/pkg/pyproject.toml")).unwrap();
        std::fs::File::create(at("alone/pyproject.toml")).unwrap();
        let file = at("repo/pkg/src/a.py");
        let python = lang::by_id("python");
        assert_eq!(of(&file, python, Some(&at("repo/pkg"))), Some(at("repo/pkg")));
        assert_eq!(
            of(&file, python, Some(&at("alone"))),
            Some(at("repo")),
            "another project's window"
        );
        assert_eq!(of(&at("alone/src/a.py"), python, None), Some(at("alone")));
        assert_eq!(of(&at("alone/src/a.py"), None, None), None);
    }

    #[test]
    fn nobody_s_home_is_a_workspace() {
        assert_eq!(of(Path::new("/a.py"), None, Some(Path::new("/"))), None);
        if let Some(home) = env_vars::home().filter(|home| home.is_absolute()) {
            assert_eq!(of(&home.join("a.py"), None, Some(&home)), None);
        }
        assert_eq!(of(Path::new("a.py"), None, Some(Path::new(""))), None);
    }
}
