//! Rotary position embedding, as the configuration describes it.

use serde_json::Value;

use super::{Wrong, check_sizes, read::Reader};

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// The first so many dimensions of a head are rotated.
    pub(crate) dims: usize,
    /// Neighbouring dimensions form a pair, instead of the two halves.
    pub(crate) interleaved: bool,
    pub(crate) base: f64,
    pub(crate) scaling: Scaling,
}

/// How positions beyond those of the training are reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scaling {
    None,
    /// Positions are divided by a factor.
    Linear {
        factor: f64,
    },
    /// The base grows with the sequence (NTK); keys stay as they were rotated.
    Dynamic {
        factor: f64,
        context: usize,
    },
    Llama3(Llama3),
    Yarn(Yarn),
    /// Every pair has a factor of its own; `input` multiplies what is rotated.
    Long {
        factors: Vec<f64>,
        input: f64,
    },
}

/// Llama 3's scaling by wavelength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Llama3 {
    pub(crate) factor: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) context_original: f64,
}

/// Yarn: low frequencies are stretched, high ones are not, those between `ramp.0` and `ramp.1` (in pairs) partly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Yarn {
    pub(crate) factor: f64,
    pub(crate) ramp: (f64, f64),
    /// Multiplies what is rotated.
    pub(crate) input: f64,
    /// Multiplies the scale of attention.
    pub(crate) attention: f64,
}

impl Yarn {
    /// The pairs between which frequencies are stretched partly: those that turn `turns` times within the original context.
    /// `truncate` rounds them to whole pairs.
    pub(super) fn ramp(
        dims: usize,
        base: f64,
        original: f64,
        turns: (f64, f64),
        truncate: bool,
    ) -> (f64, f64) {
        let dims = dims as f64;
        let pair = |turns: f64| {
            dims * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln())
        };
        let (mut low, mut high) = (pair(turns.0), pair(turns.1));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dims - 1.0));
        if low == high {
            high += 0.001;
        }
        (low, high)
    }
}

/// The names that [`Rope::scaled`] knows.
const KINDS: &str = "default, linear, dynamic, llama3, yarn, longrope, mrope";

impl Rope {
    /// `dims` of a head of `head_dim` are rotated; `base` is that of configurations that name none.
    pub(super) fn plain(
        reader: &Reader<'_>,
        (dims, head_dim): (usize, usize),
        interleaved: bool,
        base: f64,
    ) -> Result<Rope, Wrong> {
        let base = reader.rope_key("rope_theta")?.unwrap_or(base);
        Rope::new((dims, head_dim), interleaved, base)
    }

    /// The same of a base that is known.
    pub(super) fn new(
        (dims, head_dim): (usize, usize),
        interleaved: bool,
        base: f64,
    ) -> Result<Rope, Wrong> {
        if base.is_nan() || base <= 0.0 {
            return Err(Wrong::Key(format!("rope_theta is {base}, it must be positive")));
        }
        if base.is_infinite() {
            return Err(Wrong::Key("rope_theta is infinite".to_owned()));
        }
        if dims == 0 || !dims.is_multiple_of(2) {
            return Err(Wrong::Key(format!("rope rotates {dims} dimensions, not pairs")));
        }
        if dims > head_dim {
            return Err(Wrong::Key(format!("rope rotates {dims} dimensions of {head_dim}")));
        }
        check_sizes(&[dims, head_dim])?;
        Ok(Rope { dims, interleaved, base, scaling: Scaling::None })
    }

    /// Applies the scaling that the configuration asks for.
    pub(super) fn scaled(mut self, reader: &Reader<'_>) -> Result<Rope, Wrong> {
        self.scaling = match reader.rope_type()?.as_str() {
            // A text has one position per token, so the three of mrope are the same.
            "default" | "mrope" => Scaling::None,
            "linear" => Scaling::Linear { factor: factor(reader)? },
            "dynamic" => {
                Scaling::Dynamic { factor: factor(reader)?, context: context(reader)? as usize }
            }
            "llama3" => Scaling::Llama3(Llama3 {
                factor: factor(reader)?,
                low: reader.rope_key("low_freq_factor")?.unwrap_or(1.0),
                high: reader.rope_key("high_freq_factor")?.unwrap_or(4.0),
                context_original: context_original(reader)?.unwrap_or(8192.0),
            }),
            "yarn" | "deepseek_yarn" | "telechat3-yarn" => self.yarn(reader)?,
            "longrope" | "su" => self.long(reader)?,
            other => {
                return Err(Wrong::Key(format!(
                    "rope scaling {other:?} is not supported ({KINDS} are)"
                )));
            }
        };
        Ok(self)
    }

    /// What the scale of attention is multiplied with, in models that say so.
    #[allow(dead_code, reason = "for the family with latent attention")]
    pub(crate) fn attention(&self) -> f64 {
        match self.scaling {
            Scaling::Yarn(yarn) => yarn.attention,
            _ => 1.0,
        }
    }

    fn yarn(&self, reader: &Reader<'_>) -> Result<Scaling, Wrong> {
        let factor = factor(reader)?;
        let original = context_original(reader)?.unwrap_or(4096.0);
        let number = |key: &str, default: f64| -> Result<f64, Wrong> {
            finite(key, reader.rope_key(key)?.unwrap_or(default))
        };
        let turns = (number("beta_fast", 32.0)?, number("beta_slow", 1.0)?);
        let truncate = reader.rope_key("truncate")?.unwrap_or(true);
        let ramp = Yarn::ramp(self.dims, self.base, original, turns, truncate);
        let stretch =
            |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let all_dims = number("mscale_all_dim", 0.0)?;
        let input = match reader.rope_key("attention_factor")? {
            Some(input) => finite("attention_factor", input)?,
            None => stretch(number("mscale", 1.0)?) / stretch(all_dims),
        };
        let attention = stretch(all_dims).powi(2);
        Ok(Scaling::Yarn(Yarn { factor, ramp, input, attention }))
    }

    fn long(&self, reader: &Reader<'_>) -> Result<Scaling, Wrong> {
        let original = context_original(reader)?.ok_or_else(|| {
            Wrong::Key("the rope scaling has no original_max_position_embeddings".to_owned())
        })?;
        let pairs = self.dims / 2;
        let factors: Vec<f64> = match reader.rope_key::<Value>("long_factor")? {
            None => return Err(Wrong::Key("the rope scaling has no long_factor".to_owned())),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_f64).collect(),
            Some(one) => vec![one.as_f64().unwrap_or(f64::NAN); pairs],
        };
        if factors.len() != pairs || factors.iter().any(|factor| !factor.is_finite()) {
            return Err(Wrong::Key(format!("long_factor must be {pairs} numbers")));
        }
        let factor = context(reader)? / original;
        let input = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / original.ln()).sqrt() };
        Ok(Scaling::Long { factors, input })
    }
}

/// The longest sequence. Where the base grows, the configuration names the length at which it begins to.
pub(super) fn context_max(reader: &Reader<'_>) -> Result<usize, Wrong> {
    let context: usize = reader.optional(&["max_position_embeddings"])?.unwrap_or(4096);
    let growth = if reader.rope_type()? == "dynamic" { factor(reader)?.max(1.0) } else { 1.0 };
    Ok((context as f64 * growth) as usize)
}

fn factor(reader: &Reader<'_>) -> Result<f64, Wrong> {
    match reader.rope_key("factor")? {
        None => Err(Wrong::Key("the rope scaling has no factor".to_owned())),
        Some(factor) if factor > 0.0 && f64::is_finite(factor) => Ok(factor),
        Some(factor) => Err(Wrong::Key(format!("the rope scaling has a factor of {factor}"))),
    }
}

fn context(reader: &Reader<'_>) -> Result<f64, Wrong> {
    reader.need(&["max_position_embeddings"])
}

pub(super) fn finite(key: &str, number: f64) -> Result<f64, Wrong> {
    match number.is_finite() {
        true => Ok(number),
        false => Err(Wrong::Key(format!("{key} is {number}, not a number"))),
    }
}

fn context_original(reader: &Reader<'_>) -> Result<Option<f64>, Wrong> {
    match reader.rope_key("original_max_position_embeddings")? {
        Some(original) if !f64::is_finite(original) || original <= 1.0 => {
            Err(Wrong::Key(format!("original_max_position_embeddings is {original}")))
        }
        original => Ok(original),
    }
}
