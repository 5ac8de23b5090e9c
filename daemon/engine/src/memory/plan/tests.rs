//! Plans of models that are not there.

use super::*;
use crate::memory::words;

const GIB: u64 = 1 << 30;

/// A system with so many bytes free, and a limit for what models may have.
struct Fixed {
    free: u64,
    wired: Option<u64>,
}

impl Machine for Fixed {
    fn available(&self) -> Option<(u64, &'static str)> {
        Some((self.free, "free"))
    }

    fn shortage(&self) -> u64 {
        0
    }

    fn total(&self) -> Option<u64> {
        Some(128 * GIB)
    }

    fn wired_max(&self) -> Option<u64> {
        self.wired
    }
}

fn room(free: u64, allowed: Option<u64>, promised: u64, held: u64) -> Room {
    let options = LoadOptions { memory_max: allowed, ..LoadOptions::AUTO };
    Room::of(&Fixed { free, wired: None }, options, promised, held)
}

/// A model of 8 GiB in 4 bits, 32 GiB in fp32, whose context takes 1 MiB for every token that it computes in fp32.
fn needs(cost: &Cost, context: u64, least: u64) -> Needs<'_> {
    let footprint = Footprint { per_token: 256 << 10, wide: 1 << 16, ..Footprint::default() };
    Needs {
        cost,
        footprint,
        footprint_packed: None,
        pair_bytes: PairBytes::always(256),
        vocabulary: 1000,
        context,
        least,
        on_cpu: true,
    }
}

fn cost() -> Cost {
    Cost {
        parameters: 8 * GIB,
        parameters_active: GIB,
        bytes_stored: 8 * GIB,
        bytes_single: 8 * GIB + GIB / 4,
        bytes_tiles: 8 * GIB + GIB / 8,
        has_half_experts: false,
        float_bytes: 2,
    }
}

#[test]
fn what_is_promised_is_neither_free_nor_allowed() {
    assert_eq!(room(10 * GIB, None, 0, 0).bytes, Some(10 * GIB));
    let busy = room(10 * GIB, None, 6 * GIB, 4 * GIB);
    assert_eq!(busy.bytes, Some(8 * GIB), "4 of the 6 are not free any more, 2 will not be");
    let allowed = room(10 * GIB, Some(9 * GIB), 6 * GIB, 4 * GIB);
    assert_eq!((allowed.bytes, allowed.limit), (Some(3 * GIB), "allowed"));
    assert_eq!(allowed.free, Some(8 * GIB));
}

#[test]
fn the_quickest_arithmetic_that_fits_is_chosen() {
    let cost = cost();
    let needs = needs(&cost, 32_768, 4096);
    let chosen = |room: Room| needs.plan(Compute::Auto, room);
    assert_eq!(chosen(room(64 * GIB, None, 0, 0)).1, Floats::Tiles);
    let (plan, floats) = chosen(room(24 * GIB, None, 0, 0));
    assert_eq!((floats, plan.fits, plan.chosen), (Floats::Tiles, true, Compute::Fast));
    let (plan, _) = chosen(room(10 * GIB, None, 0, 0));
    assert!(!plan.fits);
    assert_eq!(plan.modes.len(), 4);
}

#[test]
fn the_longest_context_is_the_longest_that_fits() {
    let cost = cost();
    let needs = needs(&cost, 32_768, 4096);
    for free in [9, 11, 16, 24] {
        let room = room(free * GIB, None, 0, 0);
        for floats in [Floats::Stored, Floats::Single] {
            let fits = needs.chosen(floats, room).context_fits;
            assert!(fits == 0 || needs.all(floats, fits) <= free * GIB, "{free} {fits}");
            assert!(fits == 32_768 || needs.all(floats, fits + 1) > free * GIB, "{free} {fits}");
        }
    }
    let (stored, single) = (needs.mode(Floats::Stored, None), needs.mode(Floats::Single, None));
    assert_eq!(stored.cache_per_1k, 1000 * (512 << 10));
    assert_eq!(single.cache_per_1k, 1000 * (1 << 20));
    assert_eq!((stored.context_fits, stored.cache_context), (32_768, 16 * GIB));
}

#[test]
fn what_only_one_order_of_operations_makes_is_counted_there_alone() {
    let cost = cost();
    let mut needs = needs(&cost, 1 << 17, 1 << 10);
    needs.on_cpu = false;
    needs.pair_bytes = PairBytes { exact: 1 << 12, ..PairBytes::always(1 << 6) };
    let len = |floats| needs.chunk(floats).len_max(1 << 14, false);
    assert!(len(Floats::Stored) < len(Floats::Uniform));
    let scratch = |unfolded, floats| {
        let footprint = Footprint { unfolded, ..needs.footprint.clone() };
        Needs { footprint, footprint_packed: None, ..needs }.scratch(floats, 1 << 10)
    };
    assert!(scratch(1 << 10, Floats::Stored) > scratch(0, Floats::Stored));
    assert_eq!(scratch(1 << 10, Floats::Uniform), scratch(0, Floats::Uniform));
}

#[test]
fn logits_of_a_pass_that_writes_and_what_attention_puts_together_are_counted() {
    let cost = cost();
    let few = needs(&cost, 1 << 17, 1 << 10);
    let scratch = |needs: &Needs<'_>, floats| needs.scratch(floats, 1 << 13);
    let rows = few.chunk(Floats::Tiles).len_max(1 << 13, false).min(PASS_ROWS_MAX as u64);
    let many = Needs { vocabulary: 1_000_000, ..needs(&cost, 1 << 17, 1 << 10) };
    // What is there once more, as it is handed on.
    let logits = rows * 2 * 1_000_000 * 4;
    let all = scratch(&many, Floats::Tiles);
    assert!(all > logits && all < logits + scratch(&few, Floats::Tiles), "{all}");
    let footprint = Footprint { attends: (64, 128), ..many.footprint.clone() };
    let attending = Needs { footprint, ..many };
    // 8 tokens, 16 ranges of keys, 128 numbers and two more.
    assert_eq!(scratch(&attending, Floats::Tiles) - all, 8 * 64 * 16 * 130 * 4);
    // No more than the kernel's own bound, however far it sees.
    assert_eq!(attending.waiting(Floats::Tiles, 1 << 20), 64 << 20);
    assert_eq!(attending.waiting(Floats::Stored, 1 << 20), 0);
}

#[test]
fn windows_and_states_do_not_grow_with_the_context() {
    let footprint = Footprint {
        per_token: 10,
        packed: 7,
        windows: vec![(3, 128), (5, 4096)],
        state: 17,
        ..Footprint::default()
    };
    assert_eq!(footprint.bytes(100, 2), 2 * (1000 + 300 + 500) + 700 + 17);
    let windows = 3 * 128 + 5 * 4096;
    assert_eq!(footprint.bytes(10_000, 1), 100_000 + windows + 70_000 + 17);
    assert_eq!(footprint.bytes(1_000_000, 1) - footprint.bytes(999_000, 1), 17_000);
}

#[test]
fn every_suggestion_would_work() {
    let cost = cost();
    let short = needs(&cost, 32_768, 4096);
    let advice = |needs: &Needs<'_>, asked, room| needs.plan(asked, room).0.advice.join("; ");
    assert_eq!(advice(&short, Compute::Auto, room(64 * GIB, None, 0, 0)), "");

    // On the CPU the fast arithmetic takes no more than any other.
    let on_gpu =
        Needs { on_cpu: false, footprint: short.footprint.clone(), ..needs(&cost, 32_768, 4096) };
    let said = advice(&on_gpu, Compute::Fast, room(16 * GIB, None, 0, 0));
    assert!(said.contains("arithmetic on packed weights needs only"), "{said}");

    let said = advice(&short, Compute::Auto, room(10 * GIB, None, 0, 0));
    let tokens: u64 =
        said.split("a context of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(needs(&cost, 32_768, tokens).plan(Compute::Auto, room(10 * GIB, None, 0, 0)).0.fits);

    let said = advice(&short, Compute::Auto, room(64 * GIB, Some(4 * GIB), 0, 0));
    let gib: u64 =
        said.split("memory_max_gib = ").nth(1).unwrap().split('`').next().unwrap().parse().unwrap();
    assert!(short.plan(Compute::Auto, room(64 * GIB, Some(gib * GIB), 0, 0)).0.fits, "{said}");

    let said = advice(&short, Compute::Auto, room(14 * GIB, None, 9 * GIB, 0));
    assert!(said.contains("without the model that is loaded already"), "{said}");

    let said = advice(&short, Compute::Auto, room(7 * GIB, None, 0, 0));
    assert!(said.contains("fewer bits per weight"), "{said}");
    let said = advice(&short, Compute::Auto, room(GIB, None, 0, 0));
    assert_eq!(said, "", "nothing would help");
}

#[test]
fn a_mac_is_told_how_to_allow_more() {
    let cost = Cost { bytes_stored: 100 * GIB, ..cost() };
    let needs = Needs { on_cpu: false, ..needs(&cost, 4096, 4096) };
    let machine = Fixed { free: 96 * GIB, wired: Some(96 * GIB) };
    let room = Room::of(&machine, LoadOptions::AUTO, 0, 0);
    let mode = needs.mode(Floats::Stored, room.bytes);
    let said = advice::of(&Situation {
        mode,
        packed: None,
        modes: &[mode],
        room,
        overhead: mode.least - mode.weights,
        machine: &machine,
    });
    let said = said.join("; ");
    let mib: u64 =
        said.split("wired_limit_mb=").nth(1).unwrap().split('`').next().unwrap().parse().unwrap();
    assert!(mib << 20 >= mode.least && mib << 20 < 120 * GIB, "{said}");
}

#[test]
fn a_refusal_has_the_numbers() {
    let cost = cost();
    let needs = needs(&cost, 32_768, 4096);
    let (plan, floats) = needs.plan(Compute::Auto, room(10 * GIB, None, 3 * GIB, 3 * GIB));
    let said = needs.refusal(&plan, floats).to_string();
    for part in [
        "8.12 GiB of weights",
        "4.00 GiB of cache for 4096 tokens",
        "only 10.00 GiB are free",
        "3.00 GiB that other models are promised",
        &words(needs.least(floats)),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
