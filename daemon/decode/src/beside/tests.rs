use engine::{DRAFT_SOURCES, Script, Speculation};

use super::*;
use crate::score::{samples, score};
use crate::{Around, CompleteRequest, NoCritic, Unknown, complete};

/// A model that knows nothing: everything is as likely.
fn engine() -> Engine {
    let words = ["self", "name", "\n    ", "frobnicate", "frob", "nicate"];
    Engine::scripted(Script::new().words(&words).rule(|_| Vec::new()))
}

const OTHER: &str = "class A:\n    def f(self):\n        return self.frobnicate(alpha)\n";

fn workspace(engine: &Engine, files: &[(&str, &str)]) -> Arc<Workspace> {
    let workspace = Arc::new(Workspace::default());
    files.iter().for_each(|(path, text)| workspace.insert(&engine.words(), path, text));
    workspace
}

/// The document with the cursor at `|`.
fn request(marked: &str, workspace: Option<Arc<Workspace>>) -> CompleteRequest {
    let offset = marked.find('|').unwrap();
    let text: Arc<str> = marked.replacen('|', "", 1).into();
    let mut request = CompleteRequest::typing("b.txt".into(), text, offset);
    request.mixing = Some(Mixing { workspace, key: "b.txt".into() });
    request
}

async fn completed(engine: &Engine, request: CompleteRequest) -> String {
    let critic = NoCritic(Unknown::NoLanguage);
    let completion = complete(engine, &critic, request).await.unwrap();
    completion.suggestions.first().map_or_else(String::new, |one| one.text.clone())
}

fn beside(engine: &Engine, request: &CompleteRequest) -> Beside {
    let before = &request.text[..request.offset];
    let mixing = request.mixing.clone().unwrap();
    let (text, blocks) = (&request.text, &request.lookup);
    Beside::new(engine, mixing, text, request.offset, before, blocks, Vec::new()).unwrap()
}

/// The likeliest next token and its share where the model is not sure of anything.
fn next(engine: &Engine, request: &CompleteRequest, tape: &str) -> Option<(String, f32)> {
    let tape = engine.tokenizer().encode(tape);
    let shares = beside(engine, request).shares(&tape, Opinion { top: 0, certainty: 0.01 });
    let (token, share) = shares.first().copied()?;
    Some((engine.tokenizer().decode(&[token]), share))
}

#[tokio::test]
async fn names_of_the_workspace_are_written_where_the_model_has_no_idea() {
    let engine = engine();
    let known = workspace(&engine, &[("a.txt", OTHER)]);
    let marked = "    return self.|";
    let text = completed(&engine, request(marked, Some(known.clone()))).await;
    assert!(text.starts_with("frobnicate(alpha)"), "{text:?}");
    let alone = completed(&engine, request(marked, None)).await;
    assert!(!alone.starts_with("frobnicate"), "{alone:?}");
    let mut off = request(marked, Some(known));
    off.mixing = None;
    assert_eq!(completed(&engine, off).await, alone);
}

#[test]
fn a_piece_goes_on_as_a_token_of_a_file_does() {
    let engine = engine();
    let known = workspace(&engine, &[("a.txt", OTHER)]);
    let of = |marked: &str, tape: &str| next(&engine, &request(marked, Some(known.clone())), tape);
    let text = |found: Option<(String, f32)>| found.map(|(text, _)| text);
    // `frobnicate` is one token there; `frob` and `nicate` are tokens too.
    assert_eq!(text(of("    return self.frob|", "")), Some("nicate".to_owned()));
    assert_eq!(text(of("    return self.fro|", "")), Some("b".to_owned()), "by bytes");
    assert_eq!(text(of("    return self.frob|", "nicate")), Some("(".to_owned()));
    assert_eq!(text(of("    return self.frob|", "x")), None);
    assert_eq!(text(of("    return self.|", "")), Some("frobnicate".to_owned()));
    assert_eq!(text(of("    return self|", "")), Some(".".to_owned()));
}

#[test]
fn a_copy_of_the_document_foretells_nothing() {
    let engine = engine();
    let marked = "x = 1\n    return self.|\nlater = 2\n";
    let copy = marked.replace('|', "");
    let of = |path: &str| {
        let known = workspace(&engine, &[(path, &copy)]);
        next(&engine, &request(marked, Some(known)), "")
    };
    assert_eq!(of("b.txt"), None, "what stands behind the cursor");
    assert_eq!(of("c.txt").unwrap().0, "\n");
}

#[test]
fn the_document_counts_most_and_its_own_line_not_at_all() {
    let engine = engine();
    let known = workspace(&engine, &[("a.txt", OTHER), ("c.txt", OTHER)]);
    let above = "x\n    return self.others()\n    y = 2\n    return self.|\n";
    let below = "x\n    return self.|\n    y = 2\n    return self.others()\n";
    for marked in [above, below] {
        let (text, _) = next(&engine, &request(marked, Some(known.clone())), "").unwrap();
        assert_eq!(text, "o", "{marked}");
    }
    let alone = "x\n    return self.|tail()\n    y = 2\n";
    assert_eq!(next(&engine, &request(alone, None), ""), None);
}

#[test]
fn what_lies_around_is_looked_at_once_and_the_cursor_s_block_without_its_line() {
    let text: String = (0..400).map(|line| format!("value_{line} = {}\n", line * 7919)).collect();
    for offset in (0..text.len()).step_by(37).chain([text.len()]) {
        let own = own_block(&text, offset);
        assert!(own.start <= offset && offset <= own.end);
        let of_blocks = crate::around::blocks(&text, offset);
        assert!(of_blocks.len() > 3);
        for block in of_blocks {
            let at = text.find(block).unwrap();
            assert!(at + block.len() <= own.start || at >= own.end, "{offset}: {own:?} {at}");
        }
        let OwnText { before, after } = own_text(&text, offset);
        assert!(before.start == own.start && before.end <= offset && after.end == own.end);
        assert!(after.is_empty() || text[offset..after.start].ends_with('\n'));
        assert!(!text[offset..after.start].trim_end().contains('\n'));
    }
}

#[test]
fn whether_to_end_is_the_model_s_business() {
    let engine = engine();
    let known = workspace(&engine, &[("a.txt", OTHER)]);
    let mut beside = beside(&engine, &request("    return self.|", Some(known)));
    let end = engine.tokenizer().eos()[0];
    let mut total = |top, certainty| -> f32 {
        beside.shares(&[], Opinion { top, certainty }).iter().map(|(_, share)| share).sum()
    };
    assert!(total(end, 0.9) < 0.2 * total(1, 0.9));
}

#[tokio::test]
async fn it_drafts_what_it_foretells() {
    let script = Script::new().rule(|_| Vec::new()).speculation(Speculation::Always);
    let engine = Engine::scripted(script);
    let known = workspace(&engine, &[("a.txt", OTHER)]);
    let text = completed(&engine, request("    return self.|", Some(known))).await;
    assert!(text.starts_with("frobnicate(alpha)"), "{text:?}");
    let source = DRAFT_SOURCES.iter().position(|&name| name == "workspace").unwrap();
    assert!(engine.stats().accepted[source] >= 10, "{:?}", engine.stats());
}

#[tokio::test]
async fn a_text_is_scored_with_and_without_the_workspace() {
    let engine = engine();
    let known = workspace(&engine, &[("a.txt", OTHER)]);
    let with = request("    return self.|\n", Some(known));
    let without = CompleteRequest { mixing: None, ..with.clone() };
    let middle = "frobnicate(alpha)";
    let alone = score(&engine, without, middle).await.unwrap();
    let blended = score(&engine, with.clone(), middle).await.unwrap();
    let text: Vec<TokenId> = alone.iter().map(|one| one.token).collect();
    let end = engine.tokenizer().eos()[0];
    assert_eq!(text, [engine.tokenizer().encode(middle), vec![end]].concat());
    let total = |all: &[crate::score::Scored]| all.iter().map(|one| one.logprob).sum::<f32>();
    assert!(total(&blended) > 0.7 * total(&alone), "{} {}", total(&blended), total(&alone));
    let learned = samples(&engine, with, middle).await.unwrap();
    assert_eq!(learned.iter().map(|(one, _)| *one).collect::<Vec<_>>(), alone);
    assert!(learned[0].1.is_some());
    let (nats, fitted) = {
        let all: Vec<_> = learned.iter().filter_map(|(_, sample)| *sample).collect();
        Weights::fit(&all).nats(&all)
    };
    assert!(fitted < 0.7 * nats);
}

#[tokio::test]
async fn blocks_around_the_cursor_take_part() {
    let engine = engine();
    let far: String = (0..300).map(|line| format!("value_{line} = {}\n", line * 7919)).collect();
    let marked = format!("    return self.other()\n{far}    return self.|");
    let mut asked = request(&marked, None);
    assert_eq!(next(&engine, &asked, ""), None, "it is too far away");
    let around = Arc::new(Around::default());
    let of = || around.of(&engine.words(), &asked.text, asked.offset);
    of().1.unwrap().read(&engine.words());
    asked.lookup = of().0;
    assert_eq!(next(&engine, &asked, "").unwrap().0, "o");
}
