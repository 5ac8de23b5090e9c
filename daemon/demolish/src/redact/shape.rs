//! Secrets in free text: known by how they begin, by the name that stands before them, by the company they keep (a URL's
//! user), or by looking like nothing that anybody would write by hand.

use super::{REDACTED, is_secret};

/// How the keys of well-known services begin. What follows belongs to the key.
const PREFIXES: [&str; 31] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "sk-",
    "sk_live_",
    "sk_test_",
    "rk_live_",
    "pk_live_",
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "npm_",
    "pypi-",
    "hf_",
    "dop_v1_",
    "SG.",
    "shpat_",
    "eyJ",
    "AGE-SECRET-KEY-",
];
/// A known beginning with less than this behind it is a word.
const PREFIXED_LEN_MIN: usize = 12;
/// A run of characters that is shorter is never taken for a key.
const KEY_LEN_MIN: usize = 20;
/// How a private key in its armour begins and ends.
const ARMOUR: (&str, &str) = ("-----BEGIN ", "-----END ");
/// Words between `Authorization:` and the key.
const SCHEMES: [&str; 4] = ["bearer", "basic", "apikey", "token"];

/// `text` without secrets.
pub(super) fn without_secrets(text: &str) -> String {
    let text = without_armour(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = &*text;
    // The name, or the scheme, that announces the next word as a secret.
    let mut announced = false;
    while let Some(first) = rest.chars().next() {
        if !is_run(first) {
            announced &= matches!(first, ' ' | '\t' | '"' | '\'' | '=' | ':' | '\\' | '`');
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|c| !is_run(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        announced = one_run(&mut out, run, after, announced);
        rest = after;
    }
    out
}

/// Writes one run of characters without its secrets; whether what follows it is one.
fn one_run(out: &mut String, run: &str, after: &str, announced: bool) -> bool {
    if announced {
        let scheme = is_scheme(run);
        out.push_str(if scheme { run } else { REDACTED });
        return scheme;
    }
    if let Some((name, value)) = run.split_once('=')
        && is_secret(name)
        && !value.trim_matches('=').is_empty()
    {
        out.push_str(name);
        out.push('=');
        out.push_str(REDACTED);
        return false;
    }
    if after.starts_with('@')
        && let Some((scheme, _)) = run.split_once("//")
    {
        // The user of a URL without a password.
        out.push_str(scheme);
        out.push_str("//");
        out.push_str(REDACTED);
        return false;
    }
    if after.starts_with('@') && out.ends_with(':') && out.contains("//") {
        return blot_user(out);
    }
    out.push_str(&without_keys(run));
    announces(run, after)
}

/// `scheme://user:password@`: the user is written already.
fn blot_user(out: &mut String) -> bool {
    let from = out.rfind("//").map_or(out.len(), |at| at + 2);
    out.truncate(from);
    out.push_str(REDACTED);
    false
}

/// Whether what follows `run` is a secret: `password: …`, `"apiKey": "…"`, `--token …`, `Bearer …`.
fn announces(run: &str, after: &str) -> bool {
    let follows = |signs: &[char]| {
        let after = after.trim_start_matches(['"', '\'', '\\', '`', ' ']);
        after.starts_with(signs)
    };
    let name = run.trim_end_matches('=');
    let assigned = name.len() < run.len() || follows(&[':', '=']);
    let option = run.starts_with("--") && after.starts_with(' ');
    let bearer = run.eq_ignore_ascii_case("bearer") && after.starts_with(' ');
    (is_secret(name) && (assigned || option)) || bearer
}

fn is_scheme(run: &str) -> bool {
    SCHEMES.iter().any(|scheme| run.eq_ignore_ascii_case(scheme))
}

/// What keys are written with, and paths.
fn is_run(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=' | '.' | '~' | '%')
}

/// A run without the keys in it: it may be one as a whole, or a path of which one part is.
fn without_keys(run: &str) -> String {
    let path = run.starts_with(['/', '~', '.']) || run.contains("//");
    if !path && (is_prefixed(run) || is_key(run)) {
        return REDACTED.to_owned();
    }
    if run.contains("//") || run.contains(['/', '.', '=']) {
        let parts = run.split_inclusive(['/', '.', '=']).map(|part| {
            let name = part.trim_end_matches(['/', '.', '=']);
            let key = is_prefixed(name) || is_key(name);
            if key { format!("{REDACTED}{}", &part[name.len()..]) } else { part.to_owned() }
        });
        return parts.collect();
    }
    run.to_owned()
}

fn is_prefixed(run: &str) -> bool {
    PREFIXES.iter().any(|prefix| {
        run.find(prefix).is_some_and(|at| {
            let starts = at == 0 || !run.as_bytes()[at - 1].is_ascii_alphanumeric();
            starts && run.len() - at >= prefix.len() + PREFIXED_LEN_MIN
        })
    })
}

/// Whether a run looks like nothing that is written by hand: long, and of all kinds of characters.
fn is_key(run: &str) -> bool {
    if run.len() < KEY_LEN_MIN {
        return false;
    }
    let count = |is: fn(&u8) -> bool| run.bytes().filter(is).count();
    let (upper, lower, digits) =
        (count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase), count(u8::is_ascii_digit));
    let mixed = upper > 1 && lower > 1 && digits > 1;
    let letters = upper + lower;
    // Hexadecimal, base 32: one kind of letters, and digits strewn between them.
    let strewn = digits > 3 && letters > 3 && upper.min(lower) == 0 && changes(run) > 5;
    mixed || (strewn && entropy(run) > 3.0)
}

/// How often letters and digits take turns.
fn changes(run: &str) -> usize {
    let bytes = run.as_bytes();
    let kind = |byte: u8| byte.is_ascii_digit();
    bytes.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count()
}

/// Bits of information in a character.
#[allow(clippy::cast_precision_loss, reason = "counts of characters in a line")]
fn entropy(run: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in run.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let len = run.len() as f64;
    let bits = |count: &u32| {
        let share = f64::from(*count) / len;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(bits).sum()
}

/// Private keys in their armour, which take many lines.
fn without_armour(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(ARMOUR.0) {
        out.push_str(&rest[..at]);
        out.push_str(REDACTED);
        let inside = &rest[at + ARMOUR.0.len()..];
        // Without an end everything that follows may belong to it.
        rest = match inside.find(ARMOUR.1) {
            Some(end) => {
                let tail = &inside[end + ARMOUR.1.len()..];
                tail.find("-----").map_or("", |at| &tail[at + 5..])
            }
            None => "",
        };
    }
    out.push_str(rest);
    out
}
