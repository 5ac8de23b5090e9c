use proptest::prelude::*;

use super::*;

const PLAIN: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 1 };

/// Which tokens can be drawn at all.
fn support(logits: &[f32], sampling: Sampling) -> Vec<TokenId> {
    let drawn = (0..2000).filter_map(|position| draw(logits, &sampling, position, 0));
    let mut drawn: Vec<TokenId> = drawn.collect();
    drawn.sort_unstable();
    drawn.dedup();
    drawn
}

#[test]
fn filters() {
    let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
    assert_eq!(support(&logits, PLAIN), [0, 1, 2, 3]);
    assert_eq!(support(&logits, Sampling { top_k: 2, ..PLAIN }), [0, 1]);
    assert_eq!(support(&logits, Sampling { top_p: 0.7, ..PLAIN }), [0, 1]);
    assert_eq!(support(&logits, Sampling { top_p: 0.0, ..PLAIN }), [0]);
    assert_eq!(support(&logits, Sampling { min_p: 0.25, ..PLAIN }), [0, 1, 2]);
    assert_eq!(support(&logits, Sampling { temperature: 0.0, ..PLAIN }), [0]);
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = [0.6f32, 0.3, 0.1].iter().map(|p| p.ln()).collect();
    let mut counts = [0; 3];
    for position in 0..30_000 {
        counts[draw(&logits, &PLAIN, position, 0).unwrap() as usize] += 1;
    }
    for (count, p) in counts.iter().zip([0.6, 0.3, 0.1]) {
        assert!((f64::from(*count) / 30_000.0 - p).abs() < 0.01, "{counts:?}");
    }
}

#[test]
fn outlook_of_a_uniform_row() {
    let outlook = Outlook::of(&[2.0; 100]).unwrap();
    assert!((outlook.entropy - 100f32.ln()).abs() < 1e-5);
    assert_eq!(outlook.top.len(), TOP_LEN_MAX);
    assert_eq!(outlook.top[0].0, 0);
    assert_eq!(Outlook::of(&[1.0, f32::NAN]), None);
    assert_eq!(Outlook::of(&[f32::NEG_INFINITY; 3]), None);
}

#[test]
fn bans_hold() {
    assert_eq!(draw(&[f32::NEG_INFINITY; 4], &PLAIN, 0, 0), None);
    assert_eq!(draw(&[f32::NEG_INFINITY; 4], &Sampling::GREEDY, 0, 0), None);
    let mut logits = [5.0; 8];
    logits[3] = f32::NEG_INFINITY;
    assert!(!support(&logits, PLAIN).contains(&3));
}

proptest! {
    /// A draw is among the tokens that are not banned, and is repeatable.
    #[test]
    fn draws_are_sound(logits in prop::collection::vec(prop_oneof![-20f32..20.0, Just(f32::NEG_INFINITY)], 1..200),
                       temperature in 0f32..3.0, top_k in 0u32..20, top_p in 0f32..1.1, min_p in 0f32..1.0,
                       seed: u64, position in 0usize..1000, retry in 0u64..5) {
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed };
        let drawn = draw(&logits, &sampling, position, retry);
        prop_assert_eq!(drawn, draw(&logits, &sampling, position, retry));
        match drawn {
            Some(token) => prop_assert!(logits[token as usize] > f32::NEG_INFINITY),
            None => prop_assert!(logits.iter().all(|&logit| logit == f32::NEG_INFINITY)),
        }
    }

    /// The best tokens are the best, in order.
    #[test]
    fn outlooks_are_sorted(logits in prop::collection::vec(-20f32..20.0, 1..50)) {
        let outlook = Outlook::of(&logits).unwrap();
        let mut sorted = logits.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for ((_, logprob), logit) in outlook.top.iter().zip(sorted) {
            prop_assert!((logprob + outlook.normaliser - logit).abs() < 1e-4);
        }
    }
}
