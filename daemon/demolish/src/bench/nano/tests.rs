use std::io::Write as _;

use decode::confidence::Withhold;
use decode::{CompleteRequest, Completion};
use engine::{Engine, Script};
use proptest::prelude::*;

use super::cases::{self, Case, Kind};
use super::corpus::{self, File, Held, Split};
use super::fill::{self, Filled, Manner};
use super::ngram::WittenBell;
use super::projects::Projects;
use super::{curve, rows, score};

const ALONE: Manner<'_> = Manner { projects: None, mixes: false, withhold: Withhold::Low };
/// Written for these tests.
const TEXT: &str = "\
# Counts what is in a basket.
def total(basket, prices):
    amount = 0
    for fruit in basket:
        amount += prices[fruit]
    return amount


def dearest(prices):
    best = None
    for fruit in prices:
        if best is None or prices[fruit] > prices[best]:
            best = fruit
    return best
";

fn file(package: &str, path: &str, text: &str) -> File {
    File { package: package.to_owned(), path: path.to_owned(), text: text.to_owned() }
}

fn held(files: Vec<File>) -> Held {
    Held { language: "python", files }
}

fn filled<'h>(case: Case<'h>, written: &str, confidence: Option<f32>) -> Filled<'h> {
    Filled { case, written: written.to_owned(), is_shown: true, confidence, evidence: None }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_probabilities_of_an_n_gram_sum_to_one(
        learned in prop::collection::vec(prop::collection::vec(0u32..6, 0..40), 0..4),
        asked in prop::collection::vec(0u32..6, 1..12),
    ) {
        let mut model = WittenBell::for_texts(std::slice::from_ref(&asked), 6);
        learned.iter().for_each(|text| model.learn(text));
        for end in 0..asked.len() {
            let history = &asked[end.saturating_sub(4)..end];
            let sum: f64 = (0..6).map(|symbol| model.chance(history, symbol)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{sum} behind {history:?}");
        }
    }
}

#[test]
fn an_n_gram_is_that_of_the_definition() {
    // "0 1 0 1 0 2": behind nothing 0, 1, 2 came 3, 2, 1 times; behind 0 came 1 twice and 2 once.
    let mut model = WittenBell::for_texts(&[vec![0, 1]], 3);
    model.learn(&[0, 1, 0, 1, 0, 2]);
    let alone = |count: f64| (count + 3.0 / 3.0) / 9.0;
    assert!((model.chance(&[], 1) - alone(2.0)).abs() < 1e-12);
    assert!((model.chance(&[0], 1) - (2.0 + 2.0 * alone(2.0)) / 5.0).abs() < 1e-12);
    assert!(
        (model.chance(&[2, 0], 1) - model.chance(&[0], 1)).abs() < 1e-12,
        "it has not seen 2 0"
    );
    let bits = -(model.chance(&[], 0).log2() + model.chance(&[0], 1).log2());
    assert!((model.bits(&[0, 1]) - bits).abs() < 1e-12);
}

#[test]
fn holes_are_in_code_and_what_they_say_they_are() {
    let held = held(vec![file("fruit", "fruit/basket.py", TEXT)]);
    for kind in Kind::ALL {
        let cases = cases::cases(&held, kind, 8);
        assert!(cases.len() >= 4, "{kind:?}: {}", cases.len());
        for case in &cases {
            let (truth, line) = (case.truth(), case.before().rsplit('\n').next().unwrap_or(""));
            assert!(!truth.trim().is_empty() && !line.contains('#'), "{kind:?}: {truth:?}");
            assert_eq!(format!("{}{truth}{}", case.before(), case.after()), TEXT);
            let lines = truth.matches('\n').count() + 1;
            match kind {
                Kind::Block => assert!((2..=6).contains(&lines) && line.trim().is_empty()),
                Kind::Line => assert!(lines == 1 && line.trim().is_empty()),
                Kind::Identifier => assert_eq!(cases::leading_word(truth), truth),
                Kind::Name | Kind::Rest => assert!(case.after().starts_with('\n')),
            }
        }
        assert_eq!(cases, cases::cases(&held, kind, 8), "the same again");
    }
    let words = cases::cases(&held, Kind::Identifier, 50);
    assert!(words.iter().all(|case| !["for", "in", "def", "None"].contains(&case.truth())));
}

#[test]
fn exact_and_alike_have_known_values() {
    let file = file("fruit", "fruit/basket.py", TEXT);
    let at = |kind: Kind, truth: &str| {
        let begin = TEXT.find(truth).unwrap_or(0);
        Case { language: "python", kind, file: &file, begin, end: begin + truth.len() }
    };
    let line = at(Kind::Line, "amount = 0");
    for (written, exact, right, similarity) in [
        ("amount = 0", true, true, 1.0),
        ("amount = 0  \n", true, true, 1.0),
        ("amount = 1", false, false, 0.9),
        ("amount", false, false, 0.6),
        ("amount = 0\n    for fruit in basket:", true, true, 1.0),
        ("amount = 0\n    for fruit", true, false, 1.0),
        ("", false, false, 0.0),
    ] {
        let filled = filled(line, written, None);
        assert_eq!((filled.is_exact(), filled.is_right()), (exact, right), "{written:?}");
        assert!((filled.similarity() - similarity).abs() < 1e-9, "{written:?}");
    }
    let name = at(Kind::Identifier, "basket");
    for (written, exact) in
        [("basket", true), ("basket, prices", true), ("baskets", false), (" basket", false)]
    {
        assert_eq!(filled(name, written, None).is_exact(), exact, "{written:?}");
    }
    let block = at(Kind::Block, "amount = 0\n    for fruit in basket:");
    assert!(filled(block, "amount = 0\n    for fruit in basket:\n", None).is_exact());
    assert!(!filled(block, "amount = 0", None).is_exact());
}

#[tokio::test]
async fn a_model_that_knows_the_answer_has_all_and_one_that_does_not_has_none() {
    let held = held(vec![file("fruit", "fruit/basket.py", TEXT)]);
    let cases: Vec<Case<'_>> =
        Kind::ALL.into_iter().flat_map(|kind| cases::cases(&held, kind, 3)).collect();
    for case in &cases {
        let engine = Engine::scripted(knowing(case.before(), case.truth()));
        let filled = fill::fill(&engine, std::slice::from_ref(case), ALONE).await.unwrap();
        assert!(
            filled[0].is_exact(),
            "{:?} wrote {:?} for {:?}",
            case.kind,
            filled[0].written,
            case.truth()
        );
        let ignorant = Engine::scripted(knowing(case.before(), "zzz(zzz)"));
        let filled = fill::fill(&ignorant, std::slice::from_ref(case), ALONE).await.unwrap();
        assert!(!filled[0].is_exact(), "{:?}", filled[0].written);
    }
}

/// Says `text` in the hole behind `before`.
fn knowing(before: &str, text: &str) -> Script {
    let line = before.rsplit('\n').next().unwrap_or("");
    Script::new().line(&format!("{line}<|fim_middle|>"), text, 9.0)
}

#[tokio::test]
async fn bits_are_those_of_the_model() {
    // Every byte has the same chance, one of 512 tokens and more.
    let engine = Engine::scripted(Script::new().rule(|_| Vec::new()));
    let held = held(vec![file("fruit", "fruit/basket.py", &TEXT.repeat(9))]);
    let windows = score::windows(&held, 5);
    assert_eq!(windows.len(), 1);
    assert!(windows[0].text().len() <= 1536 && windows[0].text().ends_with('\n'));
    let cost = score::cost(&engine, &windows).await.unwrap();
    let each = (engine.info().vocabulary as f64).log2();
    assert!(
        (cost.per_byte(cost.model) - each).abs() < 1e-3,
        "{} {each}",
        cost.per_byte(cost.model)
    );
}

#[test]
fn the_curve_goes_from_the_surest_to_all() {
    let file = file("fruit", "fruit/basket.py", TEXT);
    let begin = TEXT.find("amount = 0").unwrap();
    let case = Case { language: "python", kind: Kind::Line, file: &file, begin, end: begin + 10 };
    let all: Vec<Filled<'_>> = (0..20)
        .map(|index| {
            let written = if index < 10 { "amount = 0" } else { "amount = 7" };
            filled(case, written, Some(1.0 - index as f32 / 20.0))
        })
        .collect();
    let points = curve::curve(&all.iter().collect::<Vec<_>>());
    let precisions: Vec<f64> = points.iter().map(|point| point.precision).collect();
    assert_eq!((points.len(), precisions[4], precisions[9]), (10, 1.0, 0.5));
    let rows = curve::rows(&all.iter().collect::<Vec<_>>(), "");
    let held = |metric: &str| rows.iter().find(|row| row.metric == metric).unwrap().clone();
    assert_eq!((held("shown_precision").value, held("shown_precision").holds), (50.0, Some(true)));
    assert_eq!(held("shown_share").value, 100.0);
}

#[test]
fn rows_can_fail() {
    let file = file("fruit", "fruit/basket.py", TEXT);
    let begin = TEXT.find("amount = 0").unwrap();
    let case = |kind| Case { language: "python", kind, file: &file, begin, end: begin + 10 };
    for (written, holds) in [("amount = 0", true), ("nothing", false)] {
        let all: Vec<Filled<'_>> =
            [Kind::Identifier, Kind::Line].map(|kind| filled(case(kind), written, None)).to_vec();
        let rows = rows::completions(&all, "");
        for metric in ["identifier_exact_match", "line_exact_match", "line_exact_match_python"] {
            let row = rows.iter().find(|row| row.metric == metric).unwrap();
            assert_eq!(row.holds, Some(holds), "{metric}");
        }
    }
    let nothing = Completion::default();
    assert!(!Filled::of(case(Kind::Line), &nothing).is_right());
}

#[test]
fn packages_come_in_turn_and_a_missing_language_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = std::fs::File::create(dir.path().join("go.heldout.jsonl")).unwrap();
    for (package, path) in [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")] {
        writeln!(out, r#"{{"package":"{package}","path":"{path}","text":"x"}}"#).unwrap();
    }
    let held = corpus::read(dir.path(), "go", Split::HeldOut).unwrap().unwrap();
    let packages: Vec<&str> = held.files.iter().map(|file| file.package.as_str()).collect();
    assert_eq!(packages[2..], ["a", "a"]);
    assert!(packages[..2].contains(&"a") && packages[..2].contains(&"b"));
    assert_eq!(held.beside(&held.files[2]).count(), 2);
    assert!(corpus::read(dir.path(), "rust", Split::HeldOut).unwrap().is_none());
}

/// The same text, with a line that no other has.
fn with_secret() -> String {
    TEXT.replace(
        "    amount = 0\n",
        "    weights = weigh_all(basket)\n    amount = zzyzx_secret_of_this_line(basket)\n",
    )
}

#[tokio::test]
async fn what_is_to_be_written_is_nowhere_in_what_a_wish_brings() {
    let text = with_secret();
    let only = "def weigh_all(some):\n    return [scales(one) for one in some]\n";
    let filler = |index: usize| {
        file("fruit", &format!("f{index}.py"), &format!("def filler_{index}(x):\n    return x\n"))
    };
    let two = [file("fruit", "a/basket.py", &text), file("fruit", "b.py", only)];
    let all = vec![held(two.into_iter().chain((0..30).map(filler)).collect())];
    let engine = Engine::scripted(Script::new());
    let measured = &all[0].files[0];
    let secret = text.rfind("zzyzx").unwrap();
    let end = secret + text[secret..].find('\n').unwrap();
    let document = [&text[..secret], &text[end..]].concat();
    let offset = document.rfind("amount = \n").unwrap() + "amount = ".len();
    let projects = Projects::of(&engine, &all, std::iter::once(measured));
    let request = projects.request(&engine, measured, document.as_str().into(), offset);
    assert!(request.context.iter().any(|chunk| chunk.path.ends_with("b.py")));
    assert!(request.context.iter().all(|chunk| !chunk.text.contains("zzyzx")));
    let known = request.lookup.iter().flat_map(|tokens| tokens.iter().copied());
    let known: Vec<u8> =
        known.flat_map(|token| engine.tokenizer().token_bytes(token).to_vec()).collect();
    assert!(!String::from_utf8_lossy(&known).contains("zzyzx"));
    // The workspace has the file, and the mixture passes over it: without it, the same is foretold.
    let others = vec![held(all[0].files[1..].to_vec())];
    let without = Projects::of(&engine, &others, std::iter::once(&others[0].files[0]));
    let bare = without.request(&engine, measured, document.as_str().into(), offset);
    let middle = "zzyzx_secret_of_this_line(basket)";
    let [with, without] = [
        decode::score::score(&engine, request.clone(), middle).await.unwrap(),
        decode::score::score(&engine, CompleteRequest { context: request.context, ..bare }, middle)
            .await
            .unwrap(),
    ];
    assert_eq!(with, without);
}
