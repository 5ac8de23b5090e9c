//! The models that are measured: shapes of real ones, with random weights. Every peer gets the same numbers in its own format.

use serde_json::{Value, json};

/// Numbers that share a scale, in MLX's format. Q4_0 has 32; it gets every scale twice.
pub(super) const GROUP: usize = 64;

/// One model.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// The name of its folder.
    pub(super) name: &'static str,
    /// Numbers of a token's state.
    pub(super) hidden: usize,
    /// Layers.
    pub(super) layers: usize,
    /// Heads that ask.
    pub(super) heads: usize,
    /// Heads that answer.
    pub(super) kv_heads: usize,
    /// Numbers of a head.
    pub(super) head_dim: usize,
    /// Tokens.
    pub(super) vocabulary: usize,
    /// What is between the layers' attentions.
    pub(super) feed_forward: FeedForward,
}

/// What is between the layers' attentions.
#[derive(Debug, Clone, Copy)]
pub(super) enum FeedForward {
    /// As in qwen2: one gated unit, biases on queries, keys and values, an output that is the embedding.
    Dense {
        /// Its width.
        inner: usize,
    },
    /// As in qwen3_moe: experts, norms of queries and keys, an output of its own.
    Experts {
        /// How many there are.
        count: usize,
        /// How many a token uses.
        chosen: usize,
        /// The width of each.
        inner: usize,
    },
}

/// A mixture of 1.7 billion parameters, of which 0.64 billion take part in a token.
pub(super) const MOE: Shape = Shape {
    name: "moe-1.7b-a0.64b",
    hidden: 2048,
    layers: 16,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    vocabulary: 65_536,
    feed_forward: FeedForward::Experts { count: 32, chosen: 8, inner: 384 },
};

/// Qwen2.5-0.5B.
pub(super) const DENSE: Shape = Shape {
    name: "dense-0.5b",
    hidden: 896,
    layers: 24,
    heads: 14,
    kv_heads: 2,
    head_dim: 64,
    vocabulary: 151_936,
    feed_forward: FeedForward::Dense { inner: 4864 },
};

/// [`MOE`], as small as its formats allow: to see that the measurement works.
pub(super) const MOE_TINY: Shape = Shape {
    name: "moe-tiny",
    hidden: 128,
    layers: 2,
    heads: 2,
    kv_heads: 1,
    head_dim: 64,
    vocabulary: 256,
    feed_forward: FeedForward::Experts { count: 4, chosen: 2, inner: 64 },
};

/// [`DENSE`], as small as its formats allow.
pub(super) const DENSE_TINY: Shape = Shape {
    name: "dense-tiny",
    hidden: 128,
    layers: 2,
    heads: 2,
    kv_heads: 1,
    head_dim: 64,
    vocabulary: 256,
    feed_forward: FeedForward::Dense { inner: 192 },
};

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Four bits, a scale per [`GROUP`].
    FourBits,
    /// Eight bits, a scale per [`GROUP`]: the router, as mlx-lm stores it. GGUF has it in fp32.
    EightBits,
    /// Ones.
    Norm,
    /// Small numbers.
    Bias,
}

/// One tensor, `[experts, out, inner]`; norms and biases have `inner` alone.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// Its path in MLX's format, without `.weight`.
    pub(super) mlx: String,
    /// Its name in GGUF, without `.weight`.
    pub(super) gguf: String,
    /// How it is stored.
    pub(super) kind: Kind,
    /// How many are stacked.
    pub(super) experts: Option<usize>,
    /// Rows.
    pub(super) out: usize,
    /// Columns.
    pub(super) inner: usize,
    /// The standard deviation of what comes out, where what goes in has 1.
    pub(super) gain: f32,
}

impl Tensor {
    /// How many numbers it has.
    pub(super) fn numbers(&self) -> usize {
        self.experts.unwrap_or(1) * self.out * self.inner
    }

    /// Bytes in MLX's format, where a float has `float` bytes.
    pub(super) fn bytes(&self, float: usize) -> usize {
        match self.kind {
            Kind::FourBits => self.numbers() / 2 + self.numbers() / GROUP * 2 * float,
            Kind::EightBits => self.numbers() + self.numbers() / GROUP * 2 * float,
            Kind::Norm | Kind::Bias => self.numbers() * float,
        }
    }
}

impl Shape {
    /// Whether it has experts.
    pub(super) fn is_mixture(&self) -> bool {
        matches!(self.feed_forward, FeedForward::Experts { .. })
    }

    /// Every tensor, in the order of the files.
    pub(super) fn tensors(&self) -> Vec<Tensor> {
        let mut all = vec![
            matrix("model.embed_tokens", "token_embd", self.vocabulary, self.hidden, 2.5),
            vector("model.norm", "output_norm", Kind::Norm, self.hidden),
        ];
        if self.is_mixture() {
            all.push(matrix("lm_head", "output", self.vocabulary, self.hidden, 2.5));
        }
        for layer in 0..self.layers {
            for mut tensor in self.layer() {
                tensor.mlx = format!("model.layers.{layer}.{}", tensor.mlx);
                tensor.gguf = format!("blk.{layer}.{}", tensor.gguf);
                all.push(tensor);
            }
        }
        all
    }

    fn layer(&self) -> Vec<Tensor> {
        let (hidden, dim) = (self.hidden, self.head_dim);
        let (queries, keys) = (self.heads * dim, self.kv_heads * dim);
        let mut all = vec![
            vector("input_layernorm", "attn_norm", Kind::Norm, hidden),
            vector("post_attention_layernorm", "ffn_norm", Kind::Norm, hidden),
            matrix("self_attn.q_proj", "attn_q", queries, hidden, 1.0),
            matrix("self_attn.k_proj", "attn_k", keys, hidden, 1.0),
            matrix("self_attn.v_proj", "attn_v", keys, hidden, 1.0),
            matrix("self_attn.o_proj", "attn_output", hidden, queries, 1.0),
        ];
        match self.feed_forward {
            FeedForward::Dense { inner } => all.extend([
                vector("self_attn.q_proj", "attn_q", Kind::Bias, queries),
                vector("self_attn.k_proj", "attn_k", Kind::Bias, keys),
                vector("self_attn.v_proj", "attn_v", Kind::Bias, keys),
                matrix("mlp.gate_proj", "ffn_gate", inner, hidden, 1.0),
                matrix("mlp.up_proj", "ffn_up", inner, hidden, 1.0),
                matrix("mlp.down_proj", "ffn_down", hidden, inner, 1.0),
            ]),
            FeedForward::Experts { count, inner, .. } => {
                let stacked = |mlx, gguf, out, inner| {
                    let tensor = matrix(mlx, gguf, out, inner, 1.0);
                    Tensor { experts: Some(count), ..tensor }
                };
                let router = matrix("mlp.gate", "ffn_gate_inp", count, hidden, 1.5);
                all.extend([
                    vector("self_attn.q_norm", "attn_q_norm", Kind::Norm, dim),
                    vector("self_attn.k_norm", "attn_k_norm", Kind::Norm, dim),
                    Tensor { kind: Kind::EightBits, ..router },
                    stacked("mlp.switch_mlp.gate_proj", "ffn_gate_exps", inner, hidden),
                    stacked("mlp.switch_mlp.up_proj", "ffn_up_exps", inner, hidden),
                    stacked("mlp.switch_mlp.down_proj", "ffn_down_exps", hidden, inner),
                ]);
            }
        }
        all
    }

    /// What `config.json` says.
    pub(super) fn config(&self) -> Value {
        let mut config = json!({
            "hidden_size": self.hidden, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0,
            "max_position_embeddings": 32_768, "eos_token_id": self.vocabulary - 1,
        });
        let mut quantization = json!({ "group_size": GROUP, "bits": 4, "mode": "affine" });
        match self.feed_forward {
            FeedForward::Dense { inner } => {
                config["model_type"] = json!("qwen2");
                config["intermediate_size"] = json!(inner);
                config["tie_word_embeddings"] = json!(true);
            }
            FeedForward::Experts { count, chosen, inner } => {
                for (key, value) in [
                    ("model_type", json!("qwen3_moe")),
                    ("intermediate_size", json!(inner)),
                    ("moe_intermediate_size", json!(inner)),
                    ("tie_word_embeddings", json!(false)),
                    ("head_dim", json!(self.head_dim)),
                    ("num_experts", json!(count)),
                    ("num_experts_per_tok", json!(chosen)),
                    ("decoder_sparse_step", json!(1)),
                    ("mlp_only_layers", json!([])),
                    ("norm_topk_prob", json!(true)),
                ] {
                    config[key] = value;
                }
                for layer in 0..self.layers {
                    quantization[format!("model.layers.{layer}.mlp.gate")] =
                        json!({ "group_size": GROUP, "bits": 8 });
                }
            }
        }
        config["quantization"] = quantization;
        config
    }
}

fn matrix(mlx: &str, gguf: &str, out: usize, inner: usize, gain: f32) -> Tensor {
    let (mlx, gguf) = (mlx.to_owned(), gguf.to_owned());
    Tensor { mlx, gguf, kind: Kind::FourBits, experts: None, out, inner, gain }
}

fn vector(mlx: &str, gguf: &str, kind: Kind, inner: usize) -> Tensor {
    Tensor { kind, ..matrix(mlx, gguf, 1, inner, 1.0) }
}
