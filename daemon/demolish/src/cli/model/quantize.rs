//! `demolish model quantize`: a checkpoint of floats becomes a packed one in MLX format.

use std::path::PathBuf;

use clap::ValueEnum;

use super::super::Outcome;
#[cfg(feature = "mlx")]
use super::{
    super::{Exit, Failure, clock, print, print_json},
    meter::Meter,
};

/// Pack a checkpoint of floats (bf16, f16, f32) into few bits, in the MLX format that mlx-lm reads too
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Weights are read in pieces, so a model may be larger than memory. DST appears when everything is written; until then it is
DST.part, and an attempt that was cut off leaves that folder, which the next one replaces. Routers, and what does not divide
into groups, are treated as mlx-lm treats them; the last line says what stayed unpacked.

Examples:
  demolish model quantize ~/models/Qwen3-4B ~/models/Qwen3-4B-4bit
  demolish model quantize SRC DST --bits 3 --group 32 --keep 'lm_head=6' --keep '*.embed_tokens=6'
  demolish model quantize SRC DST --recipe mixed_4_6
  demolish model quantize SRC DST --mode mxfp4 --keep '*.o_proj=float'
  demolish model quantize SRC DST --dry-run --json | jq .bits_per_weight")]
pub(super) struct Args {
    /// The checkpoint of floats: a folder with config.json and model*.safetensors
    #[arg(value_name = "SRC")]
    source: PathBuf,
    /// The folder to write, which must not be there
    #[arg(value_name = "DST")]
    target: PathBuf,
    /// Bits of a weight: 2, 3, 4, 5, 6 or 8 [default: 4; mxfp8: 8]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(2..=8))]
    bits: Option<u8>,
    /// Weights that share a scale: 32, 64 or 128 [default: 64; mxfp4 and mxfp8: 32; nvfp4: 16]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(16..=128))]
    group: Option<u8>,
    /// What a group shares: a scale and a bias, or the scale of one of three formats of small floats
    #[arg(long, value_enum, default_value_t = Mode::Affine)]
    mode: Mode,
    /// Two widths: the second for the head, and for values and outputs of some layers
    #[arg(long, value_enum, conflicts_with = "bits")]
    recipe: Option<Recipe>,
    /// Bits for the modules that fit GLOB, or `float` to leave them (repeatable; the first that fits counts)
    #[arg(long, value_name = "GLOB=BITS", value_parser = keep)]
    keep: Vec<(String, Kept)>,
    /// Say what would be made, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Print objects: progress, then what was made
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(missing_docs, reason = "the names of formats, explained at the option")]
enum Mode {
    Affine,
    Mxfp4,
    Mxfp8,
    Nvfp4,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Recipe {
    #[value(name = "mixed_2_6")]
    Mixed26,
    #[value(name = "mixed_3_4")]
    Mixed34,
    #[value(name = "mixed_3_6")]
    Mixed36,
    #[value(name = "mixed_4_6")]
    Mixed46,
}

/// Bits, or `None` for floats.
type Kept = Option<u8>;

fn keep(text: &str) -> Result<(String, Kept), String> {
    let (glob, bits) =
        text.rsplit_once('=').ok_or("it has the form GLOB=BITS, as in 'lm_head=6'")?;
    let bits = match bits {
        "float" => None,
        bits => match bits.parse() {
            Ok(bits @ (2 | 3 | 4 | 5 | 6 | 8)) => Some(bits),
            _ => {
                return Err(format!(
                    "there are no {bits} bits: 2, 3, 4, 5, 6 and 8 are, and `float`"
                ));
            }
        },
    };
    Ok((glob.to_owned(), bits))
}

#[cfg(not(feature = "mlx"))]
pub(super) fn run(_: &Args) -> Outcome {
    Err(super::super::Failure::missing("this build has no MLX, which packs weights"))
}

#[cfg(feature = "mlx")]
pub(super) fn run(args: &Args) -> Outcome {
    use engine::{Keep, Quantizer};

    if args.target.exists() {
        return Err(Failure::bad(format!(
            "{} is there already; name another folder, or remove it",
            args.target.display()
        )));
    }
    let keep = |path: &str| {
        let found = args.keep.iter().find(|(glob, _)| crate::glob::fits(glob, path));
        found.map(|(_, bits)| bits.map_or(Keep::Floats, Keep::Bits))
    };
    let refused = |error: engine::LoadError| {
        Failure::bad(format!("cannot pack {}: {error}", args.source.display()))
    };
    let quantizer = Quantizer::open(&args.source, &args.recipe(), &keep).map_err(refused)?;
    if args.dry_run {
        return args.told("would be", quantizer.result());
    }
    let parent = args.target.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(std::path::Path::new("."));
    std::fs::create_dir_all(parent)
        .map_err(|error| Failure::bad(format!("{}: {error}", parent.display())))?;
    crate::model::space::check(parent, quantizer.result().bytes).map_err(Failure::missing)?;
    let mut meter = Meter::new("packing", args.json);
    let made = quantizer.write(&args.target, &mut |step| {
        meter.tell(step.done, step.total, step.module);
    });
    meter.clear();
    args.told("is", &made.map_err(refused)?)
}

#[cfg(feature = "mlx")]
impl Args {
    fn recipe(&self) -> engine::Recipe {
        use engine::{Method, Mixed};
        let method = match self.mode {
            Mode::Affine => Method::Affine,
            Mode::Mxfp4 => Method::Mxfp4,
            Mode::Mxfp8 => Method::Mxfp8,
            Mode::Nvfp4 => Method::Nvfp4,
        };
        let mixed = self.recipe.map(|recipe| {
            let (low, high) = match recipe {
                Recipe::Mixed26 => (2, 6),
                Recipe::Mixed34 => (3, 4),
                Recipe::Mixed36 => (3, 6),
                Recipe::Mixed46 => (4, 6),
            };
            Mixed { low, high }
        });
        engine::Recipe { method, bits: self.bits, group: self.group, mixed }
    }

    fn told(&self, is: &str, made: &engine::Quantized) -> Outcome {
        if self.json {
            let mut object = serde_json::to_value(made).map_err(Failure::bad)?;
            object["event"] = if self.dry_run { "planned" } else { "done" }.into();
            object["path"] = self.target.display().to_string().into();
            print_json(&object);
            return Ok(Exit::Done);
        }
        let mut text = format!(
            "{} {is} {} from {}, {:.2} bits per weight, {} packed\n",
            self.target.display(),
            clock::bytes(made.bytes),
            clock::bytes(made.bytes_before),
            made.bits_per_weight,
            counted(made.packed, "matrix", "matrices"),
        );
        if made.left_out > 0 {
            let left_out = counted(made.left_out, "tensor", "tensors");
            text += &format!("left out: {left_out} that the model does not use\n");
        }
        let mut reasons: std::collections::BTreeMap<&str, Vec<&str>> =
            std::collections::BTreeMap::new();
        for unpacked in &made.unpacked {
            reasons.entry(&unpacked.reason).or_default().push(&unpacked.module);
        }
        for (reason, modules) in reasons {
            let others = match modules.len() - 1 {
                0 => String::new(),
                more => format!(" and {}", counted(more, "other", "others")),
            };
            text += &format!("not packed: {}{others} ({reason})\n", modules[0]);
        }
        if !self.dry_run {
            text += &format!("`demolish model verify {}` looks it over\n", self.target.display());
        }
        print(&text);
        Ok(Exit::Done)
    }
}

#[cfg(feature = "mlx")]
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_a_glob_and_bits() {
        assert_eq!(keep("lm_head=6"), Ok(("lm_head".to_owned(), Some(6))));
        assert_eq!(keep("*.o_proj=float"), Ok(("*.o_proj".to_owned(), None)));
        assert!(keep("lm_head").is_err());
        assert!(keep("lm_head=7").unwrap_err().contains("no 7 bits"));
    }
}
