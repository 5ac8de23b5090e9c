use mlx_rs::{fast::rms_norm, ops::sigmoid, random, transforms::eval};
use proptest::prelude::*;

use super::*;

const KEY_DIM: i32 = 16;
const VALUE_DIM: i32 = 8;

/// Random inputs of `tokens` tokens: keys that are as much alike as `alike` says (1: all the same), and memories that fade by about
/// `exp(-fading)` per token.
fn draw(seed: u64, tokens: i32, heads: (i32, i32), alike: f32, fading: f32) -> Inputs {
    let mut key = random::key(seed).unwrap();
    let mut normal = |shape: &[i32]| {
        let (next, own) = random::split(&key, 2).unwrap();
        key = next;
        random::normal::<f32>(shape, None, None, Some(&own)).unwrap()
    };
    let number = Array::from_f32;
    let unit = |x: Array| {
        let scale = number((KEY_DIM as f32).powf(-0.5));
        rms_norm(&x, None, 1e-6).unwrap().multiply(scale).unwrap()
    };
    let (key_heads, value_heads) = heads;
    let own = normal(&[1, tokens, key_heads, KEY_DIM]).multiply(number(1.0 - alike)).unwrap();
    let common = normal(&[1, 1, key_heads, KEY_DIM]).multiply(number(alike)).unwrap();
    Inputs {
        queries: unit(normal(&[1, tokens, key_heads, KEY_DIM])),
        keys: unit(own.add(common).unwrap()),
        values: normal(&[1, tokens, value_heads, VALUE_DIM]),
        beta: sigmoid(normal(&[1, tokens, value_heads]).multiply(number(3.0)).unwrap()).unwrap(),
        log_decay: exp(normal(&[1, tokens, value_heads]))
            .unwrap()
            .multiply(number(-fading))
            .unwrap(),
    }
}

fn memory(seed: u64, value_heads: i32) -> Array {
    let key = random::key(seed).unwrap();
    random::normal::<f32>(&[1, value_heads, VALUE_DIM, KEY_DIM], None, None, Some(&key)).unwrap()
}

/// The tokens `start..end` of the inputs.
fn cut(inputs: &Inputs, start: i32, end: i32) -> Inputs {
    let part = |x: &Array| crate::models::tokens(x, start, end).unwrap();
    Inputs {
        queries: part(&inputs.queries),
        keys: part(&inputs.keys),
        values: part(&inputs.values),
        beta: part(&inputs.beta),
        log_decay: part(&inputs.log_decay),
    }
}

fn distance(a: &Array, b: &Array) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let greatest = a.subtract(b).unwrap().abs().unwrap().max(None).unwrap();
    eval([&greatest]).unwrap();
    greatest.item_exact::<f32>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// However many tokens, however alike their keys, however long they are remembered, and wherever the tokens are cut.
    #[test]
    fn blocks_are_what_steps_are(seed in 0u64..1000, tokens in 1i32..80, cut_at in 0.0f32..1.0,
                                 heads in prop::sample::select(vec![(1, 1), (2, 4), (1, 3)]),
                                 alike in prop::sample::select(vec![0.0f32, 0.9, 1.0]),
                                 fading in prop::sample::select(vec![0.0f32, 0.01, 0.3, 30.0])) {
        let inputs = draw(seed, tokens, heads, alike, fading);
        let before = memory(seed + 1, heads.1);
        let (expected, last) = steps(&inputs, before.clone()).unwrap();
        let (found, end) = blocks(&inputs, before.clone()).unwrap();
        prop_assert!(distance(&found, &expected) < 2e-5, "{}", distance(&found, &expected));
        prop_assert!(distance(&end, &last) < 2e-5, "{}", distance(&end, &last));
        let middle = 1 + (cut_at * (tokens - 1) as f32) as i32;
        if middle < tokens {
            let (first, between) = blocks(&cut(&inputs, 0, middle), before.clone()).unwrap();
            let (second, end) = blocks(&cut(&inputs, middle, tokens), between).unwrap();
            let found = concatenate(&[first, second], 1).unwrap();
            prop_assert!(distance(&found, &expected) < 2e-5, "cut at {middle}");
            prop_assert!(distance(&end, &last) < 2e-5, "cut at {middle}");
            // Token by token it is the same to the bit wherever it is cut.
            let (first, between) = steps(&cut(&inputs, 0, middle), before).unwrap();
            let (second, end) = steps(&cut(&inputs, middle, tokens), between).unwrap();
            let found = concatenate(&[first, second], 1).unwrap();
            prop_assert_eq!(distance(&found, &expected), 0.0);
            prop_assert_eq!(distance(&end, &last), 0.0);
        }
    }
}

#[test]
fn the_inverse_of_a_unit_triangle() {
    for len in [1, 2, 3, 7, 16, 31, 32] {
        let below = |above| square(len, move |row, column| if row > column { 0.9 } else { above });
        let unit = square(len, |row, column| f32::from(u8::from(row == column)));
        // What is not under the diagonal does not count.
        let inverse = inverse(&below(7.0), len).unwrap();
        let product = matmul(unit.add(below(0.0)).unwrap(), inverse).unwrap();
        assert!(distance(&product, &unit) < 1e-5, "{len}");
    }
}
