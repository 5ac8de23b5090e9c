//! The second oracle: checkpoints as Hugging Face publishes them, against what `transformers` computes in fp32.
//!
//! mlx-lm deviates from the models' references in places, and where it does the engine follows `transformers`
//! (docs/models/deviations.md). Three small checkpoints are in the repository; the slow run makes all of them afresh, and is skipped
//! where there is no torch (`daemon/nano/build.sh setup` brings it).

#![cfg(feature = "mlx")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "tests read the environment, write scratch files and report"
)]

#[path = "support/checkpoint.rs"]
mod checkpoint;
#[path = "support/compare.rs"]
mod compare;
#[path = "support/fresh.rs"]
mod fresh;

use std::{path::PathBuf, process::Command};

use checkpoint::{Checkpoint, is_slow, read_folder};
use compare::{distance, misses};
use engine::{Bare, Compute, LoadOptions};
use fresh::{judge, root};

/// fp32 against fp32 in another library.
const TOLERANCE: f32 = 2e-4;
/// The same through a recurrent state.
const TOLERANCE_RECURRENT: f32 = 5e-4;

#[test]
fn committed_checkpoints_of_transformers() {
    let folder = std::env::var_os("DEMOLISH_SECOND")
        .map_or_else(|| root().join("tests/engine/second"), PathBuf::from);
    judge(read_folder(&folder).iter().map(row), "those of the repository");
}

#[test]
fn every_reference_of_transformers_made_fresh() {
    if !is_slow() {
        println!("skipped: the second oracle needs DEMOLISH_SLOW=1");
        return;
    }
    let python = root().join(".tools/nano/bin/python");
    let packages = root().join(".tools/oracle/lib");
    let packages = std::fs::read_dir(&packages)
        .ok()
        .and_then(|mut found| found.next())
        .map(|entry| entry.unwrap().path().join("site-packages"));
    let (true, Some(packages)) = (python.exists(), packages) else {
        println!(
            "skipped: the second oracle needs torch (daemon/nano/build.sh setup) and .tools/oracle (make setup)"
        );
        return;
    };
    let seed = fresh::seed();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.current_dir(root().join("tests/engine")).env("PYTHONPATH", packages);
    command.args(["-m", "oracle.second", "--seed", &seed, "--out"]).arg(folder.path());
    fresh::make(&mut command, &seed);
    judge(read_folder(folder.path()).iter().map(row), &format!("seed {seed}"));
}

fn row(checkpoint: &Checkpoint) -> (String, bool) {
    let is_recurrent = checkpoint.architecture().starts_with("qwen3_next")
        || checkpoint.architecture().starts_with("qwen3_5");
    let tolerance = if is_recurrent { TOLERANCE_RECURRENT } else { TOLERANCE };
    let mut line = format!("{:24}", checkpoint.name);
    let mut is_right = true;
    for compute in [Compute::Parity, Compute::Fast] {
        match measure(checkpoint, compute, tolerance) {
            Ok((found, missed)) => {
                line += &format!(" {compute:?} {found:.1e} ({missed} misses)");
                is_right &= found <= tolerance && missed == 0;
            }
            Err(reason) => return (format!("{line} {reason}"), false),
        }
    }
    (line, is_right)
}

/// The greatest difference over the prompt, and over the tokens behind it one by one.
fn measure(
    checkpoint: &Checkpoint,
    compute: Compute,
    tolerance: f32,
) -> Result<(f32, usize), String> {
    let options = LoadOptions { compute, ..LoadOptions::AUTO };
    let mut model = Bare::load(&checkpoint.dir, options).map_err(|error| error.to_string())?;
    let mut feed = |tokens: &[u32]| model.feed(tokens).map_err(|error| error.to_string());
    let mut worst = distance(&feed(&checkpoint.prompt)?, &checkpoint.floats("prefill"));
    let mut missed = 0;
    for (step, token) in checkpoint.greedy.iter().enumerate().take(checkpoint.greedy.len() - 1) {
        let (logits, expected) = (feed(&[*token])?, checkpoint.decoded(step + 1));
        worst = worst.max(distance(&logits, &expected));
        missed += usize::from(misses(&logits, &expected, tolerance));
    }
    Ok((worst, missed))
}
