use proptest::prelude::*;

use super::*;

/// A machine on which a pass of so many rows takes so many times one of a single row, and a text of which each draft is right for so many
/// tokens.
struct World<'a> {
    cost: &'a dyn Fn(usize) -> f64,
    /// The length of the match at a token, and how many tokens of a draft would be right there.
    text: &'a dyn Fn(usize) -> (usize, usize),
    /// Seconds of a pass of one row, and how much passes differ.
    plain: f64,
    noise: f64,
    refeeds: bool,
}

/// The time that a job of `tokens` takes, in passes of one row.
fn run(world: &World<'_>, tokens: usize, experience: &mut Experience, chance: &mut u64) -> f64 {
    let mut control = Control::new(experience);
    control.refeeds = world.refeeds;
    let (mut at, mut spent, mut again) = (0, 0.0, 0);
    while at < tokens {
        let (depth, right) = (world.text)(at);
        let room = (tokens - at - 1).min(32);
        let offer = Offer { guess: Guess::of_match(Source::Text, depth), len: room };
        let offers: &[Offer] = if depth >= 2 && room > 0 { &[offer] } else { &[] };
        let pending = 1 + again;
        let choice = control.choose(pending, offers, experience);
        let drafted = choice.map_or(0, |choice| choice.len);
        let kept = drafted.min(right);
        let rows = pending + drafted;
        *chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let swing = (*chance >> 40) as f64 / (1u64 << 24) as f64 * 2.0 - 1.0;
        let cost = (world.cost)(rows);
        spent += cost;
        let seconds = cost * world.plain * (1.0 + world.noise * swing);
        let draft = choice.map(|choice| (choice, kept));
        control.learn(Outcome { rows, seconds, draft, forced: 0, tokens: kept + 1 }, experience);
        again = if world.refeeds && kept < drafted { kept } else { 0 };
        at += kept + 1;
    }
    spent
}

/// How many times faster than plain decoding some jobs are.
fn gain(world: &World<'_>, jobs: usize, tokens: usize, experience: &mut Experience) -> f64 {
    let mut chance = 7;
    let spent: f64 = (0..jobs).map(|_| run(world, tokens, experience, &mut chance)).sum();
    (jobs * tokens) as f64 / spent
}

#[test]
fn copies_are_drafted_far_ahead() {
    for row in [0.05, 0.2, 0.48] {
        let cost = |rows: usize| 1.0 + row * (rows - 1) as f64;
        // An edit every forty tokens.
        let text = |at: usize| (at % 40, 39 - at % 40);
        let world = World { cost: &cost, text: &text, plain: 2e-3, noise: 0.1, refeeds: false };
        let gain = gain(&world, 8, 400, &mut Experience::default());
        assert!(gain > 1.5, "{gain} where a row costs {row}");
    }
}

/// They are over before they have earned what a first draft risks; what others have gained pays for it.
#[test]
fn short_copies_are_drafted_as_well() {
    for row in [0.2, 0.5] {
        let cost = |rows: usize| 1.0 + row * (rows - 1) as f64;
        let text = |at: usize| (at, 15 - at);
        let world = World { cost: &cost, text: &text, plain: 2e-3, noise: 0.1, refeeds: false };
        let gain = gain(&world, 100, 16, &mut Experience::default());
        assert!(gain > 1.2, "{gain} where a row costs {row}");
    }
}

#[test]
fn what_never_pays_is_left() {
    let cost = |rows: usize| 1.0 + 0.9 * (rows - 1) as f64;
    let text = |_| (20, 0);
    let world = World { cost: &cost, text: &text, plain: 2e-3, noise: 0.0, refeeds: false };
    let mut experience = Experience::default();
    let mut control = Control::new(&experience);
    let mut drafted = Vec::new();
    for token in 0..20_000 {
        let offer = Offer { guess: Guess::of_match(Source::Text, 20), len: 32 };
        let choice = control.choose(1, &[offer], &experience);
        let rows = 1 + choice.map_or(0, |choice| choice.len);
        drafted.extend(choice.map(|_| token));
        let draft = choice.map(|choice| (choice, 0));
        let seconds = cost(rows) * 2e-3;
        let outcome = Outcome { rows, seconds, draft, forced: 0, tokens: 1 };
        control.learn(outcome, &mut experience);
    }
    let late = drafted.iter().filter(|&&token| token > 10_000).count();
    assert!(late <= 10_000 / PROBE_PATIENCE_MAX as usize + 1, "{late} of {}", drafted.len());
    assert!(gain(&world, 1, 20_000, &mut Experience::default()) > 0.99);
}

#[test]
fn it_comes_back_when_a_text_begins_to_repeat_itself() {
    let cost = |rows: usize| 1.0 + 0.2 * (rows - 1) as f64;
    let text = |at: usize| if at < 2000 { (6, 0) } else { (6, 10) };
    let world = World { cost: &cost, text: &text, plain: 2e-3, noise: 0.0, refeeds: false };
    let gain = gain(&world, 1, 6000, &mut Experience::default());
    assert!(gain > 1.5, "{gain}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever rows cost and whatever the text is, next to nothing is lost; also where measurements swing.
    #[test]
    fn it_never_loses_more_than_it_may(
        row in 0.0f64..1.5,
        knee in 1usize..12,
        step in 0.0f64..3.0,
        rights in prop::collection::vec((0usize..24, 0usize..12), 1..40),
        noise in 0.0f64..0.2,
        tokens in 100usize..600,
        refeeds: bool,
    ) {
        // A line with a step: kernels change with the number of rows.
        let cost = move |rows: usize| {
            1.0 + row * (rows - 1) as f64 + if rows > knee { step } else { 0.0 }
        };
        let text = |at: usize| rights[at % rights.len()];
        let world = World { cost: &cost, text: &text, plain: 2e-3, noise, refeeds };
        let gain = gain(&world, 4, tokens, &mut Experience::default());
        prop_assert!(gain >= 0.97, "{}", gain);
    }

    /// The same for many short jobs, of which none can make up for what it has lost.
    #[test]
    fn short_jobs_lose_nothing_together(
        row in 0.0f64..1.0,
        depth in 2usize..24,
        right in 0usize..3,
        tokens in 8usize..60,
    ) {
        let cost = move |rows: usize| 1.0 + row * (rows - 1) as f64;
        let text = |at: usize| (depth, if at.is_multiple_of(3) { right } else { 0 });
        let world = World { cost: &cost, text: &text, plain: 2e-3, noise: 0.0, refeeds: false };
        let gain = gain(&world, 1000 / tokens, tokens, &mut Experience::default());
        prop_assert!(gain >= 0.97, "{}", gain);
    }
}

#[test]
fn a_model_that_fails_is_paid_for_and_trusted_less() {
    let mut experience = Experience::default();
    let mut control = Control::new(&experience);
    let plain = Outcome { rows: 1, seconds: 1e-2, draft: None, forced: 0, tokens: 1 };
    (0..40).for_each(|_| control.learn(plain, &mut experience));
    let guess = Guess { source: Source::Model, depth: 0 };
    let (balance, chance) = (control.balance, control.record(guess).chance());
    let before = Control::new(&experience).record(guess).chance();
    // It hung for a minute: that is counted as no more than a draft may cost.
    control.fails(Choice { guess, len: 8 }, 60.0, &mut experience);
    let paid = balance - control.balance;
    assert!(paid > 0.0 && paid < 8.0, "{paid}");
    assert!(control.record(guess).chance() < chance);
    assert!(Control::new(&experience).record(guess).chance() < before, "the next job knows it");
}
