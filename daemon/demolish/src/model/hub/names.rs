//! Names of files, as a hub gives them: which may be written, and which are wanted.

use crate::glob::fits;

/// The longest part of a name, as most file systems have it; `.part` has to go behind it.
const NAME_BYTES_MAX: usize = 255 - 5;
/// Names that devices have on Windows.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
/// Ends of the names of files that run what they hold when they are loaded.
const PICKLES: [&str; 8] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npz"];
/// What goes with a model's weights.
const WANTED: [&str; 13] = [
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "*.safetensors.index.json",
    "README*",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
];

/// Why a name must not be written, if that is so.
pub(super) fn trouble(name: &str) -> Option<&'static str> {
    if is_hostile(name) {
        return Some("it leads out of the folder");
    }
    if name.chars().any(|c| c.is_control() || ":*?\"<>|".contains(c)) {
        return Some("it has characters that not every system has in names");
    }
    for part in name.split('/') {
        let stem = part.split('.').next().unwrap_or_default().to_ascii_lowercase();
        let is_port = stem.len() == 4
            && (stem.starts_with("com") || stem.starts_with("lpt"))
            && stem.ends_with(|c: char| c.is_ascii_digit());
        if part.is_empty() || part == "." {
            return Some("a part of it is empty");
        }
        if part.len() > NAME_BYTES_MAX {
            return Some("it is too long");
        }
        if part.ends_with(' ') || part.ends_with('.') {
            return Some("it ends with a blank or a full stop");
        }
        if is_port || DEVICES.contains(&stem.as_str()) {
            return Some("it is the name of a device on Windows");
        }
    }
    let is_ours = name.ends_with(".part") || name.starts_with("demolish.");
    is_ours.then_some("Demolish keeps its own notes under such names")
}

/// Whether a name leads out of the folder: a hub that says so is not to be trusted in anything.
pub(super) fn is_hostile(name: &str) -> bool {
    name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..")
}

/// Whether loading the file would run what it holds.
pub(super) fn is_pickle(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PICKLES.iter().any(|end| name.ends_with(end))
}

/// Of these names, those that are wanted: what fits `include`, or what a model needs.
pub(super) fn wanted<'n>(names: &[&'n str], include: &[String]) -> Vec<&'n str> {
    let is_model = |name: &str| name.starts_with("model") && name.ends_with(".safetensors");
    let has_model = names.iter().any(|name| is_model(name));
    let is_wanted = |name: &str| {
        if !include.is_empty() {
            return include.iter().any(|glob| fits(glob, name));
        }
        let is_weights = if has_model { is_model(name) } else { name.ends_with(".safetensors") };
        // Other folders hold the same weights for other programs.
        !name.contains('/') && (is_weights || WANTED.iter().any(|glob| fits(glob, name)))
    };
    names.iter().copied().filter(|name| is_wanted(name) && !is_pickle(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(300);
        let wrong = [
            "../x",
            "a/../../x",
            "/etc/passwd",
            "..",
            "a//b",
            "",
            ".",
            "a/./b",
            "C:/x",
            "c:x",
            "a\\b",
            "\\\\host\\x",
            "aux.json",
            "a/NUL",
            "com1.safetensors",
            "x.",
            "x ",
            "a\nb",
            "x\0y",
            "x.part",
            "demolish.manifest.json",
            &long,
        ];
        for name in wrong {
            assert!(trouble(name).is_some(), "{name:?}");
        }
        let right =
            ["config.json", "a/b-00001-of-00002.safetensors", "console.txt", "comb.json", "..x"];
        for name in right {
            assert_eq!(trouble(name), None, "{name:?}");
        }
        let hostile =
            [("../x", true), ("a\\..\\b", true), ("/x", true), ("aux", false), ("a..b", false)];
        for (name, expected) in hostile {
            assert_eq!(is_hostile(name), expected, "{name}");
        }
    }

    #[test]
    fn only_what_is_needed_is_wanted_and_never_a_pickle() {
        let needed = [
            "config.json",
            "tokenizer.json",
            "tokenizer.model",
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
            "README.md",
            "chat_template.jinja",
            "merges.txt",
        ];
        let others = [
            "consolidated.safetensors",
            "pytorch_model.bin",
            "original/model.safetensors",
            "model.gguf",
            "modeling.py",
            ".gitattributes",
        ];
        let names = [&needed[..], &others].concat();
        assert_eq!(wanted(&names, &[]), needed);
        assert_eq!(wanted(&["weights.safetensors", "x.bin"], &[]), ["weights.safetensors"]);
        assert_eq!(wanted(&names, &["*.gguf".to_owned(), "*.bin".to_owned()]), ["model.gguf"]);
    }
}
