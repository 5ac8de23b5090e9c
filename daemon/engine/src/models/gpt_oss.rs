//! What gpt-oss has beside grouped-query attention: its mixture of experts, under its own names.

use crate::{
    config::Experts,
    nn::{Activation, Builder, Built, FeedForward, Mixture, Router, SwitchNames},
};

/// The mixture `path`.
pub(super) fn mixture(
    path: &str,
    hidden: usize,
    experts: &Experts,
    activation: Activation,
    builder: &mut Builder<'_>,
) -> Built<FeedForward> {
    let gate = builder.linear(&format!("{path}.router"), experts.count, hidden, true)?;
    let stacked = ["gate", "up", "down"].map(|name| format!("{path}.experts.{name}_proj"));
    let names = SwitchNames { stacked, scattered: None, bias: true };
    let switch = builder.switch_named(names, hidden, experts, activation)?;
    let router = Router::new(gate, None, experts);
    Ok(FeedForward::Experts(Box::new(Mixture { router, switch, shared: None })))
}
