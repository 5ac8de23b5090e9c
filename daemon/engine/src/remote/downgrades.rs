//! What differs from an engine of this process, in sentences.

use super::{
    CONTEXT_UNKNOWN,
    capabilities::{Prompts, Words},
    options::Probing,
    server::Server,
};

/// The more a server can do, the fewer they are.
pub(super) fn of(server: &Server, context: Option<usize>, probing: Probing) -> Vec<String> {
    let is_all = probing == Probing::All;
    let can = &server.capabilities;
    let structured: Vec<&str> =
        can.structured.iter().filter(|row| row.works).map(|row| row.form).collect();
    let liars: Vec<&str> =
        can.structured.iter().filter(|row| row.lied).map(|row| row.field).collect();
    let mut all = words(server);
    let mut say = |holds: bool, sentence: String| {
        if holds {
            all.push(sentence);
        }
    };
    say(true, "masks are not kept by the server: what it draws is checked, and asked for again where it is refused".to_owned());
    say(
        true,
        "what the workspace writes is not mixed in: the server draws from its model alone"
            .to_owned(),
    );
    say(
        is_all && structured.is_empty(),
        "no grammar is kept to by the server: answers are checked alone".to_owned(),
    );
    say(
        !structured.is_empty(),
        format!(
            "grammars are kept to from the beginning of an answer alone ({}); after a rewind the rest is checked",
            structured.join(", ")
        ),
    );
    say(
        !liars.is_empty(),
        format!("it takes {} and does not do what it says", liars.join(" and ")),
    );
    all.extend(answers(server));
    let mut say = |holds: bool, sentence: String| {
        if holds {
            all.push(sentence);
        }
    };
    say(can.seed == Some(false), "the same seed does not draw the same text".to_owned());
    say(
        can.prefix_reused == Some(0),
        "it computes a prompt again that it has just seen: every rewind costs the whole prompt"
            .to_owned(),
    );
    say(
        is_all && can.prefix_reused.is_none(),
        "it does not say whether a prompt that it has just seen is computed again".to_owned(),
    );
    say(can.scores == Some(false), "candidates cannot be scored on it".to_owned());
    say(
        !is_all,
        "grammars and scores are tried when a job needs them (`demolish model info --remote` tries everything)".to_owned(),
    );
    say(
        context.is_none(),
        format!(
            "it does not tell its context; {CONTEXT_UNKNOWN} tokens are assumed (`model.context_max`)"
        ),
    );
    all
}

/// What is lacking in its answers.
fn answers(server: &Server) -> Vec<String> {
    let can = &server.capabilities;
    let mut all = Vec::new();
    let mut say = |holds: bool, sentence: String| {
        if holds {
            all.push(sentence);
        }
    };
    say(
        can.logprobs == 0,
        "it does not tell probabilities: steering cannot see where the model was unsure".to_owned(),
    );
    say(
        can.logprobs > 0 && !server.kind.lists_in_streams(),
        "it tells probabilities of answers that do not stream alone".to_owned(),
    );
    say(
        !can.logit_bias,
        "refused tokens cannot be left out: they are drawn again, warmer".to_owned(),
    );
    say(
        can.loses_blank,
        "a stream of it lacks the blank that an answer begins with: answers are had whole, in pieces of some tokens".to_owned(),
    );
    say(
        !can.streaming && !can.loses_blank,
        "answers come at once, not as they are drawn".to_owned(),
    );
    all
}

/// What follows from whose tokens are whose.
fn words(server: &Server) -> Vec<String> {
    let can = &server.capabilities;
    let mut all = Vec::new();
    let mut say = |holds: bool, sentence: String| {
        if holds {
            all.push(sentence);
        }
    };
    say(
        can.words == Words::File && !server.lexicon.is_shared,
        "its tokens are not those of `model.remote_tokenizer`: texts are cut again, and tokens cannot be left out".to_owned(),
    );
    say(
        !server.lexicon.is_shared && !server.kind.lists_in_streams(),
        "the blank that an answer begins with may be lost; set `model.remote_tokenizer` to the model's own".to_owned(),
    );
    say(
        can.words == Words::Bytes,
        "nobody says what its tokens are: they are taken for bytes, and there are no special ones; set `model.remote_tokenizer`".to_owned(),
    );
    say(
        can.prompts == Prompts::Text,
        "prompts go as text: a text in which a special token's name stands is refused where that is known, and obeyed where it is not".to_owned(),
    );
    all
}
