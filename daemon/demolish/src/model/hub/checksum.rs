//! What tells that a file is the one that the hub has.

use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What the hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The sum of its bytes.
    Sha256(String),
    /// The name that git gives it: the SHA-1 of its length and its bytes.
    GitBlob(String),
}

impl Expected {
    /// The sum in hexadecimal digits, of which its kind can be told.
    pub(super) fn digits(&self) -> &str {
        match self {
            Expected::Sha256(digits) | Expected::GitBlob(digits) => digits,
        }
    }

    /// What an `ETag` of a hub means, if it means one of the two.
    pub(super) fn of_etag(etag: &str) -> Option<Expected> {
        let text = etag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        match text.len() {
            64 => Some(Expected::Sha256(text)),
            40 => Some(Expected::GitBlob(text)),
            _ => None,
        }
    }
}

/// Sums that grow with the bytes.
pub(super) struct Sums {
    sha256: Sha256,
    /// Only where it is compared: its beginning is the length.
    blob: Option<Sha1>,
}

impl Sums {
    /// Of nothing yet, for a file of so many bytes.
    pub(super) fn new(expected: Option<&Expected>, len: Option<u64>) -> Sums {
        let blob = match (expected, len) {
            (Some(Expected::GitBlob(_)), Some(len)) => {
                Some(Sha1::new_with_prefix(format!("blob {len}\0")))
            }
            _ => None,
        };
        Sums { sha256: Sha256::new(), blob }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(blob) = &mut self.blob {
            blob.update(bytes);
        }
    }

    /// The SHA-256; or what is expected, and what was found instead.
    pub(super) fn finish(self, expected: Option<&Expected>) -> Result<String, [String; 2]> {
        let sha256 = hex(&self.sha256.finalize());
        let compared = match (expected, self.blob) {
            (Some(Expected::Sha256(expected)), _) => Some((expected, sha256.clone())),
            (Some(Expected::GitBlob(expected)), Some(blob)) => {
                Some((expected, hex(&blob.finalize())))
            }
            _ => None,
        };
        match compared {
            Some((expected, found)) if *expected != found => Err([expected.clone(), found]),
            _ => Ok(sha256),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of all that can be read; `told` hears how many bytes were.
pub(crate) fn sha256(mut source: impl Read, told: &mut dyn FnMut(u64)) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(hex(&sum.finalize())),
            len => {
                sum.update(&buffer[..len]);
                told(len as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_sha256sum_and_git() {
        // `printf hello | sha256sum`, `printf hello | git hash-object --stdin`
        let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let blob = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for etag in [format!("\"{sum}\""), format!("W/\"{blob}\"")] {
            let expected = Expected::of_etag(&etag);
            assert!(expected.is_some(), "{etag}");
            let mut sums = Sums::new(expected.as_ref(), Some(5));
            sums.add(b"hel");
            sums.add(b"lo");
            assert_eq!(sums.finish(expected.as_ref()), Ok(sum.to_owned()));
            let mut sums = Sums::new(expected.as_ref(), Some(5));
            sums.add(b"jello");
            assert!(sums.finish(expected.as_ref()).is_err(), "{etag}");
        }
        assert_eq!(sha256(&b"hello"[..], &mut |_| {}).unwrap(), sum);
        assert_eq!(Expected::of_etag("\"5f3-xyz\""), None);
    }
}
