//! `FILE`, `FILE:LINE` and `FILE:LINE:COLUMN`: how verbs name a place.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Failure;

/// A file larger than this is not read: it is no source.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A place in a file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) line: Option<usize>,
    pub(super) column: Option<usize>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (mut file, mut numbers) = (text, Vec::new());
        // A file whose own name ends in `:1` is meant if it exists.
        while numbers.len() < 2 && !Path::new(file).exists() {
            let Some((head, number)) = file.rsplit_once(':') else { break };
            let Ok(number) = number.parse::<usize>() else { break };
            numbers.insert(0, number);
            file = head;
        }
        if file.is_empty() {
            return Err("the file's name is missing".to_owned());
        }
        if numbers.contains(&0) {
            return Err("lines and columns count from 1".to_owned());
        }
        Ok(Place {
            file: PathBuf::from(file),
            line: numbers.first().copied(),
            column: numbers.get(1).copied(),
        })
    }
}

impl Place {
    /// The file's absolute path and its text.
    pub(super) fn read(&self) -> Result<(PathBuf, String), Failure> {
        let shown = self.file.display();
        let path = self
            .file
            .canonicalize()
            .map_err(|error| Failure::bad(format!("{shown} cannot be read ({error})")))?;
        // A pipe or a device would be waited for, or never end.
        if !path.is_file() {
            return Err(Failure::bad(format!("{shown} is no source file")));
        }
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > FILE_BYTES_MAX) {
            let mib = FILE_BYTES_MAX / (1024 * 1024);
            return Err(Failure::bad(format!(
                "{shown} is larger than {mib} MiB, which no source file is"
            )));
        }
        let bytes = std::fs::read(&path)
            .map_err(|error| Failure::bad(format!("{shown} cannot be read ({error})")))?;
        let text =
            String::from_utf8(bytes).map_err(|_| Failure::bad(format!("{shown} is not UTF-8")))?;
        Ok((path, text))
    }

    /// The byte of the line and the column; `Err` if the text has no such place.
    pub(super) fn offset(&self, text: &str) -> Result<usize, Failure> {
        let (line, column) = (self.line.unwrap_or(1), self.column.unwrap_or(1));
        let range = self.line_range(text, line)?;
        let content = text[range.clone()].trim_end_matches(['\n', '\r']);
        let mut ends = content.char_indices().map(|(at, _)| at).chain([content.len()]);
        let within = ends.nth(column - 1).ok_or_else(|| {
            let len = content.chars().count();
            let shown = self.file.display();
            Failure::bad(format!(
                "{shown}:{line} has {len} characters, so its last column is {}, not {column}",
                len + 1
            ))
        })?;
        Ok(range.start + within)
    }

    /// The bytes that the place names: a whole line if it has no column; `None` for the whole file.
    pub(super) fn range(&self, text: &str) -> Result<Option<std::ops::Range<usize>>, Failure> {
        match (self.line, self.column) {
            (None, _) => Ok(None),
            (Some(line), None) => {
                let range = self.line_range(text, line)?;
                Ok(Some(
                    range.start..range.start + text[range].trim_end_matches(['\n', '\r']).len(),
                ))
            }
            _ => self.offset(text).map(|offset| Some(offset..offset)),
        }
    }

    fn line_range(&self, text: &str, line: usize) -> Result<std::ops::Range<usize>, Failure> {
        let mut start = 0;
        let mut lines: Vec<std::ops::Range<usize>> = text
            .split_inclusive('\n')
            .map(|line| {
                let range = start..start + line.len();
                start = range.end;
                range
            })
            .collect();
        if text.is_empty() || text.ends_with('\n') {
            lines.push(text.len()..text.len());
        }
        let count = lines.len();
        lines.into_iter().nth(line - 1).ok_or_else(|| {
            Failure::bad(format!(
                "{} has {count} {}, there is no line {line}",
                self.file.display(),
                if count == 1 { "line" } else { "lines" },
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let check = |text: &str, file: &str, line, column| {
            assert_eq!(
                text.parse(),
                Ok(Place { file: PathBuf::from(file), line, column }),
                "{text}"
            );
        };
        check("src/a.py:3:14", "src/a.py", Some(3), Some(14));
        check("src/a.py:3", "src/a.py", Some(3), None);
        check("src/a.py", "src/a.py", None, None);
        check("C:/a.py", "C:/a.py", None, None);
        check("a:1:2:3", "a:1", Some(2), Some(3));
        assert!("a.py:0:1".parse::<Place>().is_err());
        assert!(":1:1".parse::<Place>().is_err());
    }

    #[test]
    fn offsets_count_characters_from_one() {
        let text = "é = 1\r\nx\n";
        let check = |place: &str, expected: Result<usize, ()>| {
            assert_eq!(
                place.parse::<Place>().unwrap().offset(text).map_err(|_| ()),
                expected,
                "{place}"
            );
        };
        check("a:1:1", Ok(0));
        check("a:1:2", Ok(2));
        check("a:1:6", Ok(6));
        check("a:1:7", Err(()));
        check("a:2:2", Ok(9));
        check("a:3:1", Ok(10));
        check("a:4:1", Err(()));
        assert_eq!("a:1".parse::<Place>().unwrap().range(text).unwrap(), Some(0..6));
    }
}
