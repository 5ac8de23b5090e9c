//! Which experts see a row, computed from the products with the router's gate: the same choices as [`super::Router`] makes, in fp32.

use std::sync::{Arc, Mutex, PoisonError};

use super::tiles::Tiled;
use crate::config::Router;

/// So many rows are one task.
const BLOCK_ROWS: usize = 8;

/// The rows of a task, and what comes of them.
struct Block<'a> {
    gates: &'a mut [f32],
    chosen: Vec<u32>,
    scores: Vec<f32>,
}

/// Chooses experts.
pub(crate) struct Choice {
    pub(crate) gate: Tiled,
    /// Added to the scores for the choice alone.
    pub(crate) correction: Option<Arc<[f32]>>,
    pub(crate) kind: Router,
    pub(crate) per_token: usize,
}

impl Choice {
    /// Experts and their weights for every row of `gates`, `[rows, experts]`; both are `[rows, per_token]`.
    pub(crate) fn choose(&self, mut gates: Vec<f32>) -> (Vec<u32>, Vec<f32>) {
        let count = self.gate.out();
        let blocks: Vec<Mutex<Block<'_>>> = gates
            .chunks_mut(count * BLOCK_ROWS)
            .map(|gates| Mutex::new(Block { gates, chosen: Vec::new(), scores: Vec::new() }))
            .collect();
        kernels::pool().run(blocks.len(), &|task| {
            let mut block = blocks[task].lock().unwrap_or_else(PoisonError::into_inner);
            let Block { gates, chosen, scores } = &mut *block;
            gates.chunks_exact_mut(count).for_each(|gates| self.row(gates, chosen, scores));
        });
        let (mut chosen, mut scores) = (Vec::new(), Vec::new());
        for block in blocks {
            let block = block.into_inner().unwrap_or_else(PoisonError::into_inner);
            chosen.extend(block.chosen);
            scores.extend(block.scores);
        }
        (chosen, scores)
    }

    fn row(&self, gates: &mut [f32], chosen: &mut Vec<u32>, scores: &mut Vec<f32>) {
        let (start, k) = (scores.len(), self.per_token);
        match &self.kind {
            Router::SoftmaxOfChosen => greatest(gates, k, chosen),
            Router::Softmax { .. } => {
                softmax(gates);
                greatest(gates, k, chosen);
            }
            Router::Sigmoid { groups, groups_kept, .. } => {
                gates.iter_mut().for_each(|gate| *gate = sigmoid(*gate));
                let mut corrected = self.corrected(gates);
                without_worst_groups(&mut corrected, *groups, *groups_kept);
                greatest(&corrected, k, chosen);
            }
            Router::SigmoidOfSingle => {
                gates.iter_mut().for_each(|gate| *gate = sigmoid(*gate));
                greatest(&self.corrected(gates), k, chosen);
            }
        }
        scores.extend(chosen[start..].iter().map(|&expert| gates[expert as usize]));
        let own = &mut scores[start..];
        let sum: f32 = own.iter().sum();
        match self.kind {
            Router::SoftmaxOfChosen => softmax(own),
            Router::Softmax { renormalise: true } => own.iter_mut().for_each(|own| *own /= sum),
            Router::Softmax { renormalise: false } => {}
            Router::Sigmoid { scaling, renormalise, .. } => {
                let divisor = if k > 1 && renormalise { sum } else { 1.0 };
                own.iter_mut().for_each(|own| *own = *own / divisor * scaling);
            }
            Router::SigmoidOfSingle => own.iter_mut().for_each(|own| *own /= sum + 1e-20),
        }
    }

    fn corrected(&self, gates: &[f32]) -> Vec<f32> {
        match &self.correction {
            Some(correction) => gates.iter().zip(&**correction).map(|(a, b)| a + b).collect(),
            None => gates.to_vec(),
        }
    }
}

/// Appends the places of the `k` greatest, of equal ones the first, in ascending order.
fn greatest(scores: &[f32], k: usize, chosen: &mut Vec<u32>) {
    let mut places: Vec<u32> = (0..scores.len() as u32).collect();
    let by_score =
        |&a: &u32, &b: &u32| scores[b as usize].total_cmp(&scores[a as usize]).then(a.cmp(&b));
    if k < places.len() {
        places.select_nth_unstable_by(k - 1, by_score);
        places.truncate(k);
    }
    places.sort_unstable();
    chosen.extend(places);
}

/// Puts the experts of the groups whose two best experts are worst out of the question.
fn without_worst_groups(scores: &mut [f32], groups: usize, kept: usize) {
    if kept >= groups {
        return;
    }
    let len = scores.len() / groups;
    let best: Vec<f32> = scores
        .chunks_exact(len)
        .map(|group| {
            let two = |(first, second): (f32, f32), &score: &f32| {
                if score > first { (score, first) } else { (first, second.max(score)) }
            };
            let (first, second) = group.iter().fold((f32::NEG_INFINITY, f32::NEG_INFINITY), two);
            first + second
        })
        .collect();
    let mut stay = Vec::with_capacity(kept);
    greatest(&best, kept, &mut stay);
    for (index, group) in (0..).zip(scores.chunks_exact_mut(len)) {
        if !stay.contains(&index) {
            group.fill(f32::NEG_INFINITY);
        }
    }
}

fn softmax(scores: &mut [f32]) {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - greatest).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
