//! Rules for Rust files, read from the syntax tree.

use std::fs;

use proc_macro2::Span;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Attribute, Block, ExprAsync, ExprUnsafe, ImplItemFn, Item, ItemFn, ItemImpl, ItemMod,
    Signature, TraitItemFn,
};

use super::exceptions::{Exceptions, Ratchet};
use super::{Finding, Source};
use crate::paths;

/// The largest file; test modules, inline or in a tests.rs, are left out.
const FILE_LINES_MAX: usize = 800;
/// The largest function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// The rules that tests are named for.
const RULES: &str = "docs/proxy-rules.md";

/// Crates in which nothing is async.
const SYNC_CRATES: &[&str] = &["text", "proxy", "lang", "recall", "integrity"];
/// Crates whose business is foreign code.
const UNSAFE_CRATES: &[&str] = &["mlx-sys", "kernels"];
/// Crates at the rim, where our types become JSON.
const SERIALIZE_CRATES: &[&str] = &["wire", "serve", "demolish", "xtask", "testkit"];

pub(crate) fn check(source: &Source<'_>, exceptions: &Exceptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path.ends_with("/mod.rs") {
        findings
            .push(source.finding(0, "is a mod.rs: name it after its module, beside the folder"));
    }
    let file = match syn::parse_file(source.text) {
        Ok(file) => file,
        Err(error) => {
            findings.push(
                source.finding(error.span().start().line, format!("cannot be parsed: {error}")),
            );
            return findings;
        }
    };
    if !file.attrs.iter().any(is_doc) && !source.path.ends_with("/tests.rs") {
        findings.push(source.finding(1, "opens without `//!` lines that say what the module does"));
    }
    let lines = source.text.lines().count() - test_lines(&file.items);
    if lines > FILE_LINES_MAX && !source.path.ends_with("/tests.rs") {
        let ratchet = exceptions.long_file(source.path, lines);
        findings.extend(size_finding(source, 0, "the file", lines, FILE_LINES_MAX, &ratchet));
    }
    findings.extend(check_rule_numbers(source));
    let mut visitor = Visitor { source, exceptions, findings: Vec::new(), owner: String::new() };
    visitor.visit_file(&file);
    findings.extend(visitor.findings);
    findings
}

/// A test that is named for a rule of the proxy names one that docs/proxy-rules.md has.
fn check_rule_numbers(source: &Source<'_>) -> Vec<Finding> {
    let rules = fs::read_to_string(paths::root().join(RULES)).unwrap_or_default();
    let mut findings = Vec::new();
    for (index, line) in source.text.lines().enumerate() {
        let Some((_, rest)) = line.split_once("fn rule_4_") else { continue };
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        if !number.is_empty() && !rules.contains(&format!("**4.{number} ")) {
            findings.push(source.finding(
                index + 1,
                format!("is named for rule 4.{number}, which {RULES} does not have"),
            ));
        }
    }
    findings
}

fn size_finding(
    source: &Source<'_>,
    line: usize,
    what: &str,
    lines: usize,
    max: usize,
    ratchet: &Ratchet,
) -> Option<Finding> {
    match ratchet {
        Ratchet::Holds => None,
        Ratchet::NotListed => Some(
            source.finding(line, format!("{what} has {lines} lines; at most {max} are allowed")),
        ),
        Ratchet::Moved(listed) if *listed > lines => Some(source.finding(
            line,
            format!("{what} has shrunk to {lines} lines: write that into tidy.toml"),
        )),
        Ratchet::Moved(listed) => {
            Some(source.finding(line, format!("{what} has grown from {listed} to {lines} lines")))
        }
    }
}

fn is_doc(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
}

/// How many lines the inline `#[cfg(test)]` modules take.
fn test_lines(items: &[Item]) -> usize {
    let modules = items.iter().filter_map(|item| match item {
        Item::Mod(module) if module.content.is_some() && is_for_tests(&module.attrs) => {
            Some(extent(module.span()))
        }
        _ => None,
    });
    modules.sum()
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| {
        a.path().is_ident("cfg") && a.parse_args::<syn::Ident>().is_ok_and(|word| word == "test")
    })
}

fn extent(span: Span) -> usize {
    span.end().line - span.start().line + 1
}

struct Visitor<'v> {
    source: &'v Source<'v>,
    exceptions: &'v Exceptions,
    findings: Vec<Finding>,
    /// The type whose methods are being looked at, as `Type::`.
    owner: String,
}

impl Visitor<'_> {
    fn function(&mut self, signature: &Signature, block: &Block) {
        let start = signature.span().start().line;
        let lines = block.span().end().line - start + 1;
        if lines > FUNCTION_LINES_MAX {
            let name = format!("{}{}", self.owner, signature.ident);
            let ratchet = self.exceptions.long_function(self.source.path, &name, lines);
            let what = format!("the function {name}");
            self.findings.extend(size_finding(
                self.source,
                start,
                &what,
                lines,
                FUNCTION_LINES_MAX,
                &ratchet,
            ));
        }
        if let Some(token) = &signature.asyncness {
            self.async_at(token.span());
        }
        if let syn::Safety::Unsafe(token) = &signature.safety {
            self.unsafe_at(token.span());
        }
    }

    fn async_at(&mut self, span: Span) {
        let name = self.source.crate_name().unwrap_or_default();
        if SYNC_CRATES.contains(&name) && self.source.path.contains("/src/") {
            let message = format!("{name} is synchronous: nothing in it is async");
            self.findings.push(self.source.finding(span.start().line, message));
        }
    }

    fn unsafe_at(&mut self, span: Span) {
        let allowed = self.source.crate_name().is_some_and(|name| UNSAFE_CRATES.contains(&name));
        if !allowed && !self.exceptions.may_be_unsafe(self.source.path) {
            let message =
                "unsafe code stands only in mlx-sys, kernels and the files that tidy.toml names";
            self.findings.push(self.source.finding(span.start().line, message));
        }
    }

    fn attributes(&mut self, attributes: &[Attribute]) {
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            let _ = attribute.parse_nested_meta(|meta| {
                if meta.path.segments.last().is_some_and(|segment| segment.ident == "Serialize") {
                    self.serialize_at(attribute.span());
                }
                Ok(())
            });
        }
    }

    fn serialize_at(&mut self, span: Span) {
        let allowed = self.source.crate_name().is_none_or(|name| SERIALIZE_CRATES.contains(&name));
        if !allowed && !self.exceptions.may_serialize(self.source.path) {
            let message = "Serialize stands only at the rim (wire, serve, demolish) and in the files that tidy.toml names";
            self.findings.push(self.source.finding(span.start().line, message));
        }
    }
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        visit::visit_item_mod(self, module);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if let Some(token) = &item.unsafety {
            self.unsafe_at(token.span());
        }
        let owner = match &*item.self_ty {
            syn::Type::Path(path) => {
                path.path.segments.last().map(|segment| format!("{}::", segment.ident))
            }
            _ => None,
        };
        let outer = std::mem::replace(&mut self.owner, owner.unwrap_or_default());
        visit::visit_item_impl(self, item);
        self.owner = outer;
    }

    fn visit_expr_unsafe(&mut self, expression: &'ast ExprUnsafe) {
        self.unsafe_at(expression.unsafe_token.span());
        visit::visit_expr_unsafe(self, expression);
    }

    fn visit_expr_async(&mut self, expression: &'ast ExprAsync) {
        self.async_at(expression.async_token.span());
        visit::visit_expr_async(self, expression);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.attributes(&item.attrs);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.attributes(&item.attrs);
        visit::visit_item_enum(self, item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, text: &str) -> Vec<String> {
        check(&Source { path, text }, &Exceptions::default())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_module_opens_with_what_it_does() {
        assert_eq!(check_text("daemon/text/src/a.rs", "fn a() {}\n").len(), 1);
        assert!(check_text("daemon/text/src/a.rs", "//! What it does.\nfn a() {}\n").is_empty());
    }

    #[test]
    fn long_functions_are_found_by_name() {
        let text =
            format!("//! Head.\nimpl T {{ fn long() {{\n{} }} }}\n", "let _ = 1;\n".repeat(80));
        let found = check_text("daemon/text/src/a.rs", &text);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("the function T::long has 82 lines"), "{found:?}");
    }

    #[test]
    fn tests_do_not_count_towards_the_size_of_a_file() {
        let filler = "const A: u8 = 1;\n".repeat(700);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const B: u8 = 1;\n".repeat(400));
        assert!(
            check_text("daemon/text/src/a.rs", &format!("//! Head.\n{filler}{tests}")).is_empty()
        );
        assert_eq!(
            check_text("daemon/text/src/a.rs", &format!("//! Head.\n{filler}{filler}")).len(),
            1
        );
    }

    #[test]
    fn async_unsafe_and_serialize_keep_to_their_places() {
        let text = "//! Head.\n#[derive(Clone, serde::Serialize)]\nstruct S;\nasync fn a() {}\nfn b() { unsafe {} }\n";
        assert_eq!(check_text("daemon/text/src/a.rs", text).len(), 3);
        assert_eq!(check_text("daemon/wire/src/a.rs", text).len(), 1);
        assert_eq!(check_text("daemon/mlx-sys/src/a.rs", text).len(), 1);
    }
}
