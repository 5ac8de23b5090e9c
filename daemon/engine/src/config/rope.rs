//! Rotary position embedding, as the configuration describes it.

use super::{Wrong, read::Reader};

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// The first so many dimensions of a head are rotated.
    pub(crate) dims: usize,
    /// Neighbouring dimensions form a pair, instead of the two halves.
    pub(crate) interleaved: bool,
    pub(crate) base: f32,
    /// Positions are multiplied by it.
    pub(crate) scale: f32,
    /// Llama 3's scaling by wavelength.
    pub(crate) llama3: Option<Llama3>,
}

/// The parameters of Llama 3's rope scaling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Llama3 {
    pub(crate) factor: f32,
    pub(crate) low: f32,
    pub(crate) high: f32,
    pub(crate) context_original: f32,
}

impl Rope {
    /// `dims` of a head are rotated; `base` is that of configurations that name none.
    pub(super) fn plain(
        reader: &Reader<'_>,
        dims: usize,
        interleaved: bool,
        base: f64,
    ) -> Result<Rope, Wrong> {
        let base = reader.rope_key::<f64>("rope_theta")?.unwrap_or(base) as f32;
        if base <= 0.0 {
            return Err(Wrong::Key(format!("rope_theta is {base}, it must be positive")));
        }
        Ok(Rope { dims, interleaved, base, scale: 1.0, llama3: None })
    }

    /// Applies the scaling that the configuration asks for.
    pub(super) fn scaled(mut self, reader: &Reader<'_>) -> Result<Rope, Wrong> {
        match reader.rope_type()?.as_str() {
            "default" => {}
            "linear" => self.scale = 1.0 / reader.rope_need("factor")?,
            "llama3" => {
                self.llama3 = Some(Llama3 {
                    factor: reader.rope_need("factor")?,
                    low: reader.rope_key::<f64>("low_freq_factor")?.unwrap_or(1.0) as f32,
                    high: reader.rope_key::<f64>("high_freq_factor")?.unwrap_or(4.0) as f32,
                    context_original: reader
                        .rope_key::<f64>("original_max_position_embeddings")?
                        .unwrap_or(8192.0) as f32,
                });
            }
            other => {
                return Err(Wrong::Key(format!(
                    "rope scaling {other:?} is not supported (default, linear, llama3 are)"
                )));
            }
        }
        Ok(self)
    }
}
