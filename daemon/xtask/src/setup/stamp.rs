//! Stamps: a file per step that says which recipe has been done. Another recipe, or another place of `.tools/` (programs
//! are patched for their place), means that the step is due again.

use std::fs;

use anyhow::{Context as _, Result};

use super::install::Site;
use super::table::Step;

/// Raised when the code that carries out recipes changes what it leaves behind.
const FORMAT: u32 = 1;

/// What identifies the outcome of a step: everything in its row that changes files, and the place.
pub(crate) fn recipe(step: &Step, site: &Site) -> String {
    let text = format!("{FORMAT} {:?} {:?} {}", step.action, step.links, site.tools.display());
    format!("{:016x}", fnv1a(text.as_bytes()))
}

pub(crate) fn matches(step: &Step, site: &Site) -> bool {
    fs::read_to_string(site.stamp(step))
        .is_ok_and(|text| text.lines().next() == Some(&recipe(step, site)))
}

pub(crate) fn write(step: &Step, site: &Site) -> Result<()> {
    let text = format!("{}\n{} {}\n", recipe(step, site), step.name, step.version);
    let aside = site.stamp(step).with_extension("new");
    fs::write(&aside, text)
        .and_then(|()| fs::rename(&aside, site.stamp(step)))
        .context("cannot write the stamp")
}

pub(crate) fn remove(step: &Step, site: &Site) -> Result<()> {
    match fs::remove_file(site.stamp(step)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("cannot remove the stamp")
        }
        _ => Ok(()),
    }
}

/// The 64-bit hash of Fowler, Noll and Vo: the same on every machine and with every compiler.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
