//! Names with `*` in them.

/// Whether `name` fits `glob`, in which `*` stands for anything.
pub(crate) fn fits(glob: &str, name: &str) -> bool {
    match glob.split_once('*') {
        None => glob == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            (0..=name.len()).any(|at| name.is_char_boundary(at) && fits(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, name, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("*", "", true),
            ("textDocument/*", "textDocument/hover", true),
            ("*diagnostic*", "workspace/diagnostic/refresh", true),
            ("*/x*y", "a/b/xzy", true),
            ("*/x*y", "a/b/xz", false),
        ] {
            assert_eq!(fits(glob, name), expected, "{glob} {name}");
        }
    }
}
