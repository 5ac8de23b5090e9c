//! What MiniMax-M2 has beside grouped-query attention: its mixture of experts, under its own names.

use crate::{
    config::Experts,
    nn::{Activation, Builder, Built, FeedForward, Mixture, Router, SwitchNames},
};

/// The mixture of a layer, `path`.
pub(super) fn mixture(
    path: &str,
    hidden: usize,
    experts: &Experts,
    builder: &mut Builder<'_>,
) -> Built<FeedForward> {
    let gate = builder.linear(&format!("{path}.gate"), experts.count, hidden, false)?;
    let correction = builder.vector(&format!("{path}.e_score_correction_bias"), experts.count)?;
    let stacked = ["gate", "up", "down"].map(|name| format!("{path}.switch_mlp.{name}_proj"));
    // Gate, up and down, as the published weights call them.
    let scattered = ["w1", "w3", "w2"].map(|name| (format!("{path}.experts"), name.to_owned()));
    let names = SwitchNames { stacked, scattered: Some(scattered), bias: false };
    let switch = builder.switch_named(names, hidden, experts, Activation::Swiglu)?;
    let router = Router::new(gate, Some(correction), experts);
    Ok(FeedForward::Experts(Box::new(Mixture { router, switch, shared: None })))
}
