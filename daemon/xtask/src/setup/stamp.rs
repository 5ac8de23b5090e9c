//! Stamps: a file per step that says which recipe has been done. Another recipe, or another place of `.tools/` (programs
//! are patched for their place), means that the step is due again.

use std::fs;

use anyhow::{Context as _, Result};

use super::install::Site;
use super::table::Step;
use crate::fingerprint;

/// Raised when the code that carries out recipes changes what it leaves behind.
const FORMAT: u32 = 1;

/// What identifies the outcome of a step: everything in its row that changes files, and the place.
pub(crate) fn recipe(step: &Step, site: &Site) -> String {
    // A link to `.tools/` elsewhere is that place: checkouts that share one do not undo each other's steps.
    let place = fs::canonicalize(&site.tools).unwrap_or_else(|_| site.tools.clone());
    let text = format!("{FORMAT} {:?} {:?} {}", step.action, step.links, place.display());
    fingerprint::of(text.as_bytes())
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
