use proptest::prelude::*;

use super::*;

/// Every token is a word of its own; the first ten are digits.
fn kinds() -> Arc<TokenKinds> {
    let words: Vec<String> = (0..4000)
        .map(|token| if token < 10 { token.to_string() } else { format!(" word{token}") })
        .collect();
    Arc::new(TokenKinds::new(words.iter().map(|word| word.as_bytes())))
}

/// Tokens until the first loop is found, and what was found.
fn first(kinds: &Arc<TokenKinds>, tape: &[TokenId]) -> Option<(usize, Collapse)> {
    let mut detector = Detector::new(kinds.clone());
    (1..=tape.len()).find_map(|len| detector.push(&tape[..len]).map(|found| (len, found)))
}

/// `prefix` tokens of no loop, a unit of `period`, and `run` tokens that repeat it.
fn looped(prefix: usize, period: usize, run: usize) -> Vec<TokenId> {
    let unit = (0..period).map(|index| 2000 + index as TokenId);
    (0..prefix as TokenId).map(|token| 100 + token).chain(unit.cycle().take(period + run)).collect()
}

#[test]
fn every_period_is_found_within_two_hundred_tokens_of_its_second_round() {
    let kinds = kinds();
    for period in 1..=188 {
        let (len, found) = first(&kinds, &looped(50, period, 250)).unwrap();
        assert_eq!(found, Collapse { period, second: 50 + period });
        assert!(len <= 50 + period + 200, "period {period}: {len}");
        assert!(period > 12 || len <= 250, "with its first round: period {period}, {len}");
    }
}

#[test]
fn data_may_repeat_itself_for_longer() {
    let kinds = kinds();
    let zeros: Vec<TokenId> = [0, 0, 1].repeat(2000);
    assert_eq!(first(&kinds, &zeros), None);
    assert!(first(&kinds, &[7; 1200]).is_some());
    let counted: Vec<TokenId> =
        (0..300).flat_map(|row| [50, 51, row / 100, row / 10 % 10, row % 10, 52]).collect();
    assert_eq!(first(&kinds, &counted), None, "a table with a running number");
}

#[test]
fn a_few_words_in_no_order_are_a_collapse() {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as TokenId
    };
    let salad: Vec<TokenId> = (0..300).map(|_| 20 + random() % 6).collect();
    let (len, found) = first(&kinds(), &salad).unwrap();
    assert!(len <= 200 && found.second == len - 176, "{len}");
    let text: Vec<TokenId> = (0..3000).map(|_| 20 + random() % 12).collect();
    assert_eq!(first(&kinds(), &text), None);
}

#[test]
fn a_loop_is_taken_back_twice_and_then_ends() {
    let sampling = Sampling::GREEDY;
    let mut watch = Watch::new(kinds());
    let tape = looped(50, 5, 300);
    for rung in 1..=2 {
        let verdict = (1..=tape.len())
            .map(|len| watch.look(&tape[..len]))
            .find(|verdict| *verdict != Verdict::GoOn);
        assert_eq!(verdict, Some(Verdict::Back(55)));
        watch.rewound(&tape[..55]);
        let remedy = watch.remedy(&sampling, 55).unwrap();
        assert_eq!((remedy.sampling.temperature, remedy.banned), (0.3, Some(2000)));
        assert_eq!(remedy.sampling.dry.multiplier > 0.0, rung == 2);
        assert!(watch.remedy(&sampling, 56).unwrap().banned.is_none());
        assert_eq!(watch.remedy(&sampling, 100).is_some(), rung == 2);
        assert_eq!(watch.remedy(&sampling, 400), None);
        watch.rewound(&[]);
        watch.cut = Some((0, 0));
    }
    let ends = (1..=tape.len()).map(|len| watch.look(&tape[..len])).find(|it| *it == Verdict::End);
    assert!(ends.is_some());
    assert_eq!(watch.settled(), 55);
}

#[test]
fn a_job_that_makes_repetition_costlier_keeps_what_it_says() {
    assert_eq!(costlier(&Dry::OFF), COSTLY);
    let own = Dry { multiplier: 3.0, allowed_len: 2, window: 0, with_prompt: true, ..COSTLY };
    assert_eq!(costlier(&own), own);
    let weak = Dry { multiplier: 0.1, base: 1.1, allowed_len: 9, window: 7, cap: 1.0, ..COSTLY };
    assert_eq!(costlier(&Dry { breakers: vec![5], ..weak }), Dry { breakers: vec![5], ..COSTLY });
}

proptest! {
    // Each case looks at some thousand tokens.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Repetitions shorter than the rules say are no loops, wherever they stand and however many there are.
    #[test]
    fn short_repetitions_are_honest(parts in prop::collection::vec((1usize..190, 0usize..183, 10usize..40), 1..8)) {
        let mut tape = Vec::new();
        for (index, (period, run, between)) in parts.into_iter().enumerate() {
            let base = (index * 400) as TokenId + 10;
            tape.extend((0..period + run).map(|at| base + (at % period) as TokenId));
            tape.extend((0..between).map(|at| base + 200 + at as TokenId));
        }
        prop_assert_eq!(first(&kinds(), &tape), None);
    }

    /// Text without any repetition is none either, and a rewind forgets what was cut.
    #[test]
    fn a_rewind_forgets_what_was_cut(keep in 0usize..60, period in 1usize..20, run in 0usize..180) {
        let tape = looped(60, period, run);
        let mut detector = Detector::new(kinds());
        for len in 1..=tape.len() {
            prop_assert_eq!(detector.push(&tape[..len]), None);
        }
        detector.rewind(&tape[..keep]);
        let mut again = tape[..keep].to_vec();
        let mut found = None;
        for at in 0..period + 200 {
            again.push(3000 + (at % period) as TokenId);
            found = found.or(detector.push(&again));
        }
        prop_assert_eq!(found.unwrap().second, keep + period);
    }
}
