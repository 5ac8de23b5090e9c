use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::sampling::{Order, Penalty, Stage, Xtc};

fn plain() -> Sampling {
    Sampling { temperature: 1.0, seed: 1, ..Sampling::GREEDY }
}

fn draw(logits: &[f32], sampling: &Sampling, position: usize, retry: u64) -> Option<TokenId> {
    Sampler::default().draw(logits, sampling, position, retry)
}

/// What may be drawn, with its probability.
fn distribution(logits: &[f32], sampling: &Sampling) -> BTreeMap<TokenId, f64> {
    let mut pool = pool::Pool::default();
    pool.fill(logits, sampling, 0.0).unwrap();
    pool.distribution().into_iter().collect()
}

fn support(logits: &[f32], sampling: &Sampling) -> Vec<TokenId> {
    distribution(logits, sampling).into_keys().collect()
}

#[test]
fn filters() {
    let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
    assert_eq!(support(&logits, &plain()), [0, 1, 2, 3]);
    assert_eq!(support(&logits, &Sampling { top_k: 2, ..plain() }), [0, 1]);
    assert_eq!(support(&logits, &Sampling { top_p: 0.7, ..plain() }), [0, 1]);
    assert_eq!(support(&logits, &Sampling { top_p: 0.0, ..plain() }), [0]);
    assert_eq!(support(&logits, &Sampling { min_p: 0.25, ..plain() }), [0, 1, 2]);
    let xtc = Xtc { probability: 1.0, threshold: 0.2 };
    assert_eq!(support(&logits, &Sampling { xtc, ..plain() }), [1, 2, 3]);
    let exempt = Some(std::sync::Arc::new([0].into_iter().collect()));
    assert_eq!(support(&logits, &Sampling { xtc, exempt, ..plain() }), [0, 1, 2, 3]);
    assert_eq!(support(&[1.0; 6], &Sampling { top_k: 3, ..plain() }), [0, 1, 2]);
    assert_eq!(draw(&logits, &Sampling::GREEDY, 0, 0), Some(0));
    // The expected surprise is 1.21 nats: the token of 25 % (1.39) is the most typical one, then that of 50 % (0.69) and so on.
    assert_eq!(support(&logits, &Sampling { typical_p: 0.2, ..plain() }), [1]);
    assert_eq!(support(&logits, &Sampling { typical_p: 0.7, ..plain() }), [0, 1]);
}

#[test]
fn the_order_of_stages_is_data() {
    let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
    let warm = Sampling { temperature: 4.0, top_p: 0.7, ..plain() };
    assert_eq!(support(&logits, &warm), [0, 1, 2], "the distribution is flat when top-p sees it");
    assert_eq!(support(&logits, &Sampling { order: Order::MLX_LM, ..warm }), [0, 1]);
}

/// What mlx-lm 0.32.0 leaves of the same logits, and with which probabilities (`tests/engine/make_sampling.py`).
#[test]
fn mlx_lm_leaves_the_same_tokens() {
    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        logits: Vec<f32>,
        history: Vec<TokenId>,
        temperature: f32,
        top_k: u32,
        top_p: f32,
        min_p: f32,
        xtc: Option<f32>,
        repetition: f32,
        presence: f32,
        frequency: f32,
        bias: BTreeMap<String, f32>,
        left: BTreeMap<String, f64>,
    }
    let text = include_str!("../../../../tests/engine/sampling.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(cases.len() >= 50);
    for case in cases {
        let sampling = Sampling {
            temperature: case.temperature,
            top_k: case.top_k,
            top_p: case.top_p,
            min_p: case.min_p,
            xtc: case.xtc.map_or(plain().xtc, |threshold| Xtc { probability: 1.0, threshold }),
            repetition: Penalty { amount: case.repetition, ..Penalty::ONE },
            presence: Penalty { amount: case.presence, ..Penalty::NONE },
            frequency: Penalty { amount: case.frequency, ..Penalty::NONE },
            bias: case.bias.iter().map(|(token, bias)| (token.parse().unwrap(), *bias)).collect(),
            order: Order::MLX_LM,
            ..plain()
        };
        let (prompt, tape) = case.history.split_at(case.history.len() / 2);
        let mut logits = case.logits;
        adjust(&mut logits, &sampling, History { prompt, tape });
        let ours = distribution(&logits, &sampling);
        for token in 0..logits.len() as TokenId {
            let theirs = case.left.get(&token.to_string()).copied().unwrap_or(0.0);
            let our = ours.get(&token).copied().unwrap_or(0.0);
            assert!(
                (our - theirs).abs() < 2e-6 && (our == 0.0) == (theirs == 0.0),
                "{}: token {token} has {our} here and {theirs} there",
                case.name
            );
        }
    }
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = [0.6f32, 0.3, 0.1].iter().map(|p| p.ln()).collect();
    let mut counts = [0; 3];
    for position in 0..30_000 {
        counts[draw(&logits, &plain(), position, 0).unwrap() as usize] += 1;
    }
    for (count, p) in counts.iter().zip([0.6, 0.3, 0.1]) {
        assert!((f64::from(*count) / 30_000.0 - p).abs() < 0.01, "{counts:?}");
    }
    let xtc = Sampling { xtc: Xtc { probability: 0.5, threshold: 0.2 }, ..plain() };
    let obvious = (0..10_000).filter(|&position| draw(&logits, &xtc, position, 0) == Some(0));
    assert!((obvious.count() as f64 / 10_000.0 - 0.3).abs() < 0.02, "60 % of every second draw");
}

#[test]
fn outlook_of_a_uniform_row() {
    let outlook = Outlook::of(&[2.0; 100], 8).unwrap();
    assert!((outlook.entropy - 100f32.ln()).abs() < 1e-5);
    assert_eq!(outlook.top.len(), 8);
    assert_eq!(outlook.top[0].0, 0);
    assert!(Outlook::of(&[2.0; 100], 0).unwrap().top.is_empty());
    assert_eq!(Outlook::of(&[1.0, f32::NAN], 8), None);
    assert_eq!(Outlook::of(&[f32::NEG_INFINITY; 3], 8), None);
}

#[test]
fn bans_hold() {
    assert_eq!(draw(&[f32::NEG_INFINITY; 4], &plain(), 0, 0), None);
    assert_eq!(draw(&[f32::NEG_INFINITY; 4], &Sampling::GREEDY, 0, 0), None);
    let mut logits = [5.0; 8];
    logits[3] = f32::NEG_INFINITY;
    assert!(!support(&logits, &plain()).contains(&3));
    // A constraint may write anything.
    assert_eq!(draw(&[f32::NAN, 1.0, f32::NAN], &plain(), 0, 0), Some(1));
    assert_eq!(draw(&[0.0, f32::INFINITY, 1.0], &plain(), 0, 0), Some(1));
    assert_eq!(draw(&[f32::NAN; 3], &plain(), 0, 0), None);
    assert_eq!(draw(&[1.0, 2.0], &Sampling { temperature: f32::NAN, ..plain() }, 0, 0), Some(1));
}

#[test]
fn the_coldest_draw_is_the_likeliest_token() {
    for temperature in [f32::from_bits(1), f32::MIN_POSITIVE, 1e-30, 1e-6] {
        for top_p in [1.0, 0.5] {
            let cold = Sampling { temperature, top_p, ..plain() };
            assert_eq!(draw(&[1.0, 3.0, 2.0, -4.0], &cold, 0, 0), Some(1), "{temperature:e}");
        }
    }
}

fn order() -> impl Strategy<Value = Order> {
    Just(Order::USUAL.0.to_vec()).prop_shuffle().prop_map(|stages| {
        Order([stages[0], stages[1], stages[2], stages[3], stages[4], stages[5]])
    })
}

/// The same as a textbook has it: everything sorted, in double precision.
fn textbook(logits: &[f32], sampling: &Sampling) -> BTreeMap<TokenId, f64> {
    let mut left: Vec<(TokenId, f64)> =
        logits.iter().enumerate().map(|(token, &x)| (token as TokenId, f64::from(x))).collect();
    left.sort_by(|a, b| b.1.total_cmp(&a.1));
    for stage in sampling.order.0 {
        let best = left[0].1;
        let weight = |logit: f64| (logit - best).exp();
        match stage {
            Stage::Temperature => {
                left.iter_mut().for_each(|(_, logit)| *logit /= f64::from(sampling.temperature));
            }
            Stage::TopK if sampling.top_k > 0 => left.truncate(sampling.top_k as usize),
            Stage::TopP => {
                let total: f64 = left.iter().map(|&(_, logit)| weight(logit)).sum();
                let mut above = 0.0;
                left.retain(|&(_, logit)| {
                    above += weight(logit);
                    above - weight(logit) < f64::from(sampling.top_p) * total
                });
            }
            Stage::MinP => left.retain(|&(_, logit)| weight(logit) >= f64::from(sampling.min_p)),
            _ => {}
        }
    }
    let best = left[0].1;
    let total: f64 = left.iter().map(|&(_, logit)| (logit - best).exp()).sum();
    left.into_iter().map(|(token, logit)| (token, (logit - best).exp() / total)).collect()
}

proptest! {
    /// What is left is what a textbook leaves, whether a few tokens decide or all of them have to be looked at.
    #[test]
    fn stages_are_those_of_the_textbook(seed in 0u64..10_000, spread in 0.5f32..60.0, temperature in 0.3f32..2.5, top_k in 0u32..40,
                                        top_p in 0.05f32..1.0, min_p in 0f32..0.3, order in order()) {
        let number = |index| uniform(seed, index, 0, Purpose::Draw) as f32;
        let logits: Vec<f32> = (0..500).map(|index| number(index) * spread).collect();
        let sampling = Sampling { temperature, top_k, top_p, min_p, order, ..plain() };
        let (ours, theirs) = (distribution(&logits, &sampling), textbook(&logits, &sampling));
        for token in 0..500 {
            let (our, their) = (ours.get(&token).unwrap_or(&0.0), theirs.get(&token).unwrap_or(&0.0));
            prop_assert!((our - their).abs() < 1e-4, "token {}: {} and {}", token, our, their);
        }
        prop_assert!(ours.len().abs_diff(theirs.len()) <= 1);
    }

    /// Whatever the settings: a draw is among the tokens that are not banned, and is repeatable; the distribution sums to one.
    #[test]
    fn draws_are_sound(logits in prop::collection::vec(prop_oneof![-20f32..20.0, Just(1.0), Just(f32::NEG_INFINITY)], 1..200),
                       temperature in 0f32..3.0, top_k in 0u32..20, top_p in 0f32..1.1, min_p in 0f32..1.0, typical_p in 0f32..1.1,
                       threshold in 0f32..0.5, order in order(), seed: u64, position in 0usize..1000, retry in 0u64..5) {
        let xtc = Xtc { probability: 0.5, threshold };
        let sampling = Sampling { temperature, top_k, top_p, min_p, typical_p, xtc, order, seed, ..plain() };
        let drawn = draw(&logits, &sampling, position, retry);
        prop_assert_eq!(drawn, draw(&logits, &sampling, position, retry));
        match drawn {
            Some(token) => prop_assert!(logits[token as usize] > f32::NEG_INFINITY),
            None => prop_assert!(logits.iter().all(|&logit| logit == f32::NEG_INFINITY)),
        }
        if drawn.is_some() && temperature > 0.0 {
            let left = distribution(&logits, &Sampling { xtc: plain().xtc, ..sampling.clone() });
            prop_assert!((left.values().sum::<f64>() - 1.0).abs() < 1e-9);
            prop_assert!(left.keys().all(|&token| logits[token as usize] > f32::NEG_INFINITY));
            prop_assert!(top_k == 0 || left.len() <= top_k as usize);
        }
    }

    /// Penalties never un-ban a token, and leave no value that is not a number.
    #[test]
    fn penalties_are_sound(logits in prop::collection::vec(prop_oneof![-20f32..20.0, Just(f32::NEG_INFINITY)], 8..9),
                           tape in prop::collection::vec(0u32..10, 0..60), amount in 0.01f32..10.0) {
        let penalty = Penalty { amount, ..Penalty::NONE };
        let dry = crate::sampling::Dry { multiplier: amount, ..crate::sampling::Dry::OFF };
        let sampling = Sampling { repetition: penalty, presence: penalty, frequency: penalty, dry, ..plain() };
        let mut after = logits.clone();
        adjust(&mut after, &sampling, History { prompt: &tape, tape: &tape });
        for (before, after) in logits.iter().zip(after) {
            prop_assert!(!after.is_nan() && (*before > f32::NEG_INFINITY) == (after > f32::NEG_INFINITY));
        }
    }

    /// The best tokens are the best, in order.
    #[test]
    fn outlooks_are_sorted(logits in prop::collection::vec(-20f32..20.0, 1..300)) {
        let outlook = Outlook::of(&logits, 8).unwrap();
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        prop_assert_eq!(outlook.top.len(), logits.len().min(8));
        for ((_, logprob), logit) in outlook.top.iter().zip(sorted) {
            prop_assert!((logprob + outlook.normaliser - logit).abs() < 1e-4);
        }
    }
}
