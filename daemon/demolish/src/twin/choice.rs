//! Who is shown candidates: a twin, the user's own server for a moment, or nobody. Pure.

use std::time::Duration;

use proxy::{LEASE_IDLE, Quantiles};

use crate::config::Speculation;

/// How many checks a backend must have answered before its pace counts.
const MEASURED: usize = 16;

/// Who is shown candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A second, quiet instance.
    Twin,
    /// The user's own server, while nobody uses it.
    Lease,
    /// A checker that is part of the program.
    Builtin,
    /// Nobody: every verdict is *unknown*.
    None,
}

/// A choice and its reason, one phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Who.
    pub backend: Backend,
    /// Why.
    pub why: String,
}

/// What is known when a choice is made.
#[derive(Debug, Clone)]
pub struct Facts {
    /// What the user wants.
    pub setting: Speculation,
    /// Why there can be no twin, if that is so.
    pub no_twin: Option<String>,
    /// Why there can be no lease, if that is so.
    pub no_lease: Option<String>,
    /// How fast the twin has been.
    pub twin: Option<Quantiles>,
    /// How fast leases have been.
    pub lease: Option<Quantiles>,
}

impl Backend {
    /// The word in status.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Backend::Twin => "twin",
            Backend::Lease => "lease",
            Backend::Builtin => "builtin",
            Backend::None => "none",
        }
    }
}

/// Chooses. A twin is ready while the user types, so it goes first where it can be had; unless it was measured to take longer than a
/// lease does with the silence that a lease waits for.
#[must_use]
pub fn choose(facts: &Facts) -> Choice {
    let choice = |backend, why: &str| Choice { backend, why: why.to_owned() };
    match (facts.setting, &facts.no_twin, &facts.no_lease) {
        (Speculation::Off, ..) => choice(Backend::None, "`twin.speculation` is `off`"),
        (Speculation::Twin, None, _) => choice(Backend::Twin, "`twin.speculation` is `twin`"),
        (Speculation::Lease, _, None) => choice(Backend::Lease, "`twin.speculation` is `lease`"),
        (Speculation::Twin, Some(why), _) | (Speculation::Lease, _, Some(why)) => {
            choice(Backend::None, why)
        }
        (Speculation::Auto, None, Some(why)) => choice(Backend::Twin, &format!("no lease: {why}")),
        (Speculation::Auto, Some(why), None) => choice(Backend::Lease, &format!("no twin: {why}")),
        (Speculation::Auto, Some(twin), Some(lease)) => {
            choice(Backend::None, &format!("no twin: {twin}; no lease: {lease}"))
        }
        (Speculation::Auto, None, None) => by_pace(facts),
    }
}

fn by_pace(facts: &Facts) -> Choice {
    let known =
        |quantiles: Option<Quantiles>| quantiles.filter(|of| of.count >= MEASURED).map(|of| of.p50);
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    match (known(facts.twin), known(facts.lease)) {
        (Some(twin), Some(lease)) if lease + LEASE_IDLE < twin => Choice {
            backend: Backend::Lease,
            why: format!("measured: {:.1} ms instead of the twin's {:.1} ms", ms(lease), ms(twin)),
        },
        (Some(twin), _) => {
            Choice { backend: Backend::Twin, why: format!("measured: {:.1} ms", ms(twin)) }
        }
        (None, _) => Choice {
            backend: Backend::Twin,
            why: "ready while the user types, and within the memory".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_4_34_the_backend_follows_setting_memory_and_pace() {
        let pace = |ms: u64, count| {
            let p50 = Duration::from_millis(ms);
            Some(Quantiles { p50, p95: p50 * 2, count })
        };
        let check =
            |setting, no_twin: Option<&str>, no_lease: Option<&str>, twin, lease, expected| {
                let own = |why: Option<&str>| why.map(str::to_owned);
                let facts =
                    Facts { setting, no_twin: own(no_twin), no_lease: own(no_lease), twin, lease };
                let Choice { backend, why } = choose(&facts);
                assert_eq!(backend, expected, "{facts:?}: {why}");
                let reasons = [no_twin, no_lease].into_iter().flatten().collect::<Vec<_>>();
                if backend == Backend::None && setting != Speculation::Off {
                    assert!(reasons.iter().any(|reason| why.contains(reason)), "{why}");
                }
            };
        use Backend::{Lease, None as Nobody, Twin};
        use Speculation::{Auto, Off};
        check(Off, None, None, None, None, Nobody);
        check(Auto, None, None, None, None, Twin);
        check(Auto, Some("too large"), None, None, None, Lease);
        check(Auto, None, Some("it writes caches"), None, None, Twin);
        check(Auto, Some("too large"), Some("it writes caches"), None, None, Nobody);
        check(Auto, None, None, pace(10, 99), pace(5, 99), Twin);
        check(Auto, None, None, pace(400, 99), pace(100, 99), Lease);
        check(Auto, None, None, pace(400, 99), pace(100, MEASURED - 1), Twin);
        check(Speculation::Twin, Some("too large"), None, None, None, Nobody);
        check(Speculation::Lease, None, Some("it writes caches"), None, None, Nobody);
        check(Speculation::Lease, None, None, pace(1, 99), None, Lease);
        check(Speculation::Twin, None, None, pace(900, 99), pace(1, 99), Twin);
    }
}
