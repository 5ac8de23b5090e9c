//! How likely a suggestion is what the author would write next, so that a bad one is not shown.
//!
//! What the model thinks of its own tokens, and where the cursor stands, is turned into numbers ([`Evidence`]); a logistic regression
//! over held-out code, stored as data (`data/confidence.toml`), turns these into a probability, and says from which one on a suggestion
//! is shown ([`Learned`]). It is fitted for one model: of another model's suggestions nothing is withheld.

mod fit;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

pub use fit::{FitError, SAMPLES_MIN, Sample, fit};

/// The numbers of [`Evidence`], by name.
pub const FEATURES: [&str; FEATURES_LEN] = [
    "likely",
    "mean",
    "least",
    "first",
    "end",
    "end_unknown",
    "tokens",
    "characters",
    "lines",
    "whole",
    "inside",
    "blank",
    "after_word",
    "after_dot",
    "after_opener",
    "column",
    "turned",
    "c",
    "cpp",
    "go",
    "lua",
    "python",
    "rust",
    "typescript",
];

const FEATURES_LEN: usize = 24;
/// Where the languages begin among them.
const LANGUAGES: usize = 17;
/// A log-probability below this says no more than this.
const LEAST_LOGPROB: f32 = -12.0;
/// A probability this near to 1 is no nearer.
const NEAR_ONE: f32 = -1e-3;
/// More lines than this are as this many.
const LINES_MAX: usize = 4;

/// What the file of data says of itself.
const HEAD: &str = "# From which confidence on suggestions are shown: fitted on held-out code\n# (daemon/decode/src/confidence.rs says how); edits are lost.\n\n";

/// What was learned, by model.
const LEARNED: &[&str] = &[include_str!("../data/confidence.toml")];

/// What speaks for a suggestion and against it, in numbers; [`FEATURES`] names them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence([f32; FEATURES_LEN]);

/// What is looked at to get there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    /// The log-probabilities of the suggestion's tokens; not empty.
    pub(crate) logprobs: &'a [f32],
    /// That of the token behind it, which ended it.
    pub(crate) end: Option<f32>,
    /// The suggestion.
    pub(crate) text: &'a str,
    /// The cursor's line before the cursor.
    pub(crate) line: &'a str,
    /// Text follows on the cursor's line.
    pub(crate) inside: bool,
    /// It has closed what it opened.
    pub(crate) whole: bool,
    /// It is not what the model would have said first.
    pub(crate) turned: bool,
    /// The language's id.
    pub(crate) language: &'a str,
}

/// From which confidence on a suggestion is shown without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Withhold {
    /// Every suggestion is shown.
    Off,
    /// Those of which about two in five are what the author wrote.
    #[default]
    Low,
    /// Those of which about three in five are.
    High,
}

/// A logistic regression over [`Evidence`], and where it says to show.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The model whose suggestions it knows.
    pub model: String,
    /// How many suggestions it was fitted on.
    pub samples: usize,
    /// The share of them that was right.
    pub right: f32,
    /// For [`Withhold::Low`].
    pub low: CutOff,
    /// For [`Withhold::High`].
    pub high: CutOff,
    /// The logarithm of the odds where every feature is 0.
    pub bias: f32,
    /// What each feature adds to it; one that is not named adds nothing.
    pub weights: BTreeMap<String, f32>,
}

/// From which probability on suggestions are shown, and what that meant for those that it was fitted on, each judged by what the others
/// had taught.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutOff {
    /// The least probability that is shown.
    pub probability: f32,
    /// The share of the shown ones that was right.
    pub precision: f32,
    /// The share of all that was shown.
    pub shown: f32,
}

impl Evidence {
    pub(crate) fn of(look: &Look<'_>) -> Evidence {
        let count = look.logprobs.len().max(1) as f32;
        let sum: f32 = look.logprobs.iter().sum();
        let end = look.end.unwrap_or(0.0);
        let whole = (sum + end).clamp(LEAST_LOGPROB, NEAR_ONE);
        let mut features = [0.0; FEATURES_LEN];
        let lines = look.text.matches('\n').count();
        let last = look.line.chars().next_back();
        let is = |condition: bool| f32::from(u8::from(condition));
        let numbers = [
            whole - (-whole.exp_m1()).ln(),
            (sum / count).max(LEAST_LOGPROB),
            look.logprobs.iter().copied().fold(0.0, f32::min).max(LEAST_LOGPROB),
            look.logprobs.first().copied().unwrap_or(0.0).max(LEAST_LOGPROB),
            end.max(LEAST_LOGPROB),
            is(look.end.is_none()),
            count.ln_1p(),
            (look.text.chars().count() as f32).ln_1p(),
            lines.min(LINES_MAX) as f32,
            is(look.whole),
            is(look.inside),
            is(look.line.trim().is_empty()),
            is(last.is_some_and(|last| last.is_alphanumeric() || last == '_')),
            is(last == Some('.') || look.line.ends_with("::") || look.line.ends_with("->")),
            is(last.is_some_and(|last| "([{\"'`<".contains(last))),
            (look.line.trim_start().chars().count() as f32).ln_1p(),
            is(look.turned),
        ];
        features[..LANGUAGES].copy_from_slice(&numbers);
        let language = FEATURES[LANGUAGES..].iter().position(|name| *name == look.language);
        if let Some(language) = language {
            features[LANGUAGES + language] = 1.0;
        }
        Evidence(features.map(|number| if number.is_finite() { number } else { 0.0 }))
    }

    /// The numbers, in the order of [`FEATURES`].
    pub fn features(&self) -> &[f32] {
        &self.0
    }
}

impl Learned {
    /// What was learned of the model of this name. `None`: nothing, and nothing of its suggestions is withheld.
    pub fn of_model(name: &str) -> Option<&'static Learned> {
        static ALL: LazyLock<Vec<Learned>> =
            LazyLock::new(|| LEARNED.iter().filter_map(|text| toml::from_str(text).ok()).collect());
        ALL.iter().find(|learned| learned.model == name)
    }

    /// As the file of data spells it.
    pub fn to_toml(&self) -> String {
        let Learned { model, samples, right, bias, .. } = self;
        let mut text = format!("{HEAD}model = {model:?}\nsamples = {samples}\n");
        text += &format!("right = {right:?}\nbias = {bias:?}\n");
        for (name, cut_off) in [("low", self.low), ("high", self.high)] {
            let CutOff { probability, precision, shown } = cut_off;
            text += &format!("\n[{name}]\nprobability = {probability:?}\n");
            text += &format!("precision = {precision:?}\nshown = {shown:?}\n");
        }
        text += "\n[weights]\n";
        self.weights.iter().for_each(|(name, weight)| text += &format!("{name} = {weight:?}\n"));
        text
    }

    /// The probability that a suggestion is what the author would write.
    pub fn probability(&self, evidence: &Evidence) -> f32 {
        let weight = |name: &str| self.weights.get(name).copied().unwrap_or(0.0);
        let sum: f32 = FEATURES.iter().zip(evidence.0).map(|(name, x)| weight(name) * x).sum();
        1.0 / (1.0 + (-(self.bias + sum)).exp())
    }

    /// Whether a suggestion of this probability is shown.
    pub fn shows(&self, withhold: Withhold, probability: f32) -> bool {
        match withhold {
            Withhold::Off => true,
            Withhold::Low => probability >= self.low.probability,
            Withhold::High => probability >= self.high.probability,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look<'_> = Look {
        logprobs: &[-0.5, -0.1],
        end: Some(-0.2),
        text: "x + 1",
        line: "    return ",
        inside: false,
        whole: true,
        turned: false,
        language: "python",
    };

    fn feature(look: &Look<'_>, name: &str) -> f32 {
        let at = FEATURES.iter().position(|feature| *feature == name).unwrap();
        Evidence::of(look).features()[at]
    }

    #[test]
    fn features_say_what_their_names_say() {
        let odds = |p: f32| (p / (1.0 - p)).ln();
        for (name, expected) in [
            ("likely", odds((-0.8f32).exp())),
            ("mean", -0.3),
            ("least", -0.5),
            ("first", -0.5),
            ("end", -0.2),
            ("end_unknown", 0.0),
            ("tokens", 3.0f32.ln()),
            ("characters", 6.0f32.ln()),
            ("lines", 0.0),
            ("whole", 1.0),
            ("inside", 0.0),
            ("blank", 0.0),
            ("after_word", 0.0),
            ("column", 8.0f32.ln()),
            ("turned", 0.0),
            ("python", 1.0),
            ("rust", 0.0),
        ] {
            assert!((feature(&LOOK, name) - expected).abs() < 1e-5, "{name}");
        }
        let places = [("a.", "after_dot"), ("std::", "after_dot"), ("f(", "after_opener")];
        for (line, name) in places.into_iter().chain([("é", "after_word"), ("\t", "blank")]) {
            assert_eq!(feature(&Look { line, ..LOOK }, name), 1.0, "{line:?}");
        }
        assert_eq!(feature(&Look { end: None, ..LOOK }, "end_unknown"), 1.0);
    }

    #[test]
    fn whatever_is_looked_at_the_features_are_numbers_within_bounds() {
        let odd = [f32::NEG_INFINITY, -1e30, -0.0, 0.0, 1e-9, f32::NAN];
        for first in odd {
            for end in odd.map(Some).into_iter().chain([None]) {
                for text in ["", "\n\n\n\n\n\n\n\n", "é😀"] {
                    let logprobs = &[first, -0.1];
                    let evidence = Evidence::of(&Look { logprobs, end, text, ..LOOK });
                    let all = evidence.features();
                    assert!(all.iter().all(|x| x.abs() <= 20.0), "{first} {end:?} {all:?}");
                }
            }
        }
        assert!(Evidence::of(&Look { logprobs: &[], ..LOOK }).features()[0].is_finite());
    }

    #[test]
    fn what_was_learned_can_be_read_and_is_of_one_model() {
        for text in LEARNED {
            let learned: Learned = toml::from_str(text).unwrap();
            let unknown: Vec<&String> =
                learned.weights.keys().filter(|name| !FEATURES.contains(&name.as_str())).collect();
            assert!(unknown.is_empty(), "{unknown:?} are no features: fit anew");
            assert_eq!(toml::from_str::<Learned>(&learned.to_toml()).unwrap(), learned);
            assert!(learned.low.probability <= learned.high.probability);
        }
        assert_eq!(Learned::of_model("another"), None);
    }
}
