//! The parse tree of a document, and what steering reads from it: which statement holds a place, whether it is over, what
//! encloses it, and whether a change broke the syntax.
//!
//! A tree-sitter tree is a guide to structure, never a judge: on valid code one prefix in ten still shows an error somewhere.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use tree_sitter::{InputEdit, Node, Parser, Point, Tree};

use crate::policy::Until;
use crate::{Language, Open, Statement};

/// The `[syntax]` table: names of tree-sitter nodes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kinds {
    /// Nodes whose named children are statements.
    blocks: Vec<String>,
    /// Nodes through which a statement inside them is a statement of its own (a loop), other than through an argument.
    transparent: Vec<String>,
    functions: Vec<String>,
    /// What a reader would call the place: functions, classes, modules.
    items: Vec<String>,
    /// What else gives a name to something outside of functions: constants, aliases.
    #[serde(default)]
    definitions: Vec<String>,
    imports: Vec<String>,
    /// What a line starts with that goes on with the statement before it.
    continues: Vec<String>,
    /// What a line ends with that goes on.
    #[serde(default)]
    line_end: Option<String>,
    /// What a line starts with that says something of the next one (decorators, attributes).
    #[serde(default)]
    line_start: Vec<String>,
}

/// A language as one of its kinds of files writes it (`.ts` and `.tsx` differ). Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Grammar {
    pub(crate) language: &'static Language,
    parser: Option<&'static str>,
}

/// A parse tree. It keeps no text: the methods take the text that it was made of.
#[derive(Debug, Clone)]
pub struct Syntax {
    form: Form,
    grammar: Grammar,
}

/// What is known of a text.
#[derive(Debug, Clone)]
enum Form {
    Tree(Tree),
    /// Only where its statements end, for languages whose grammar is not linked.
    Flat(Arc<[Statement]>),
}

/// Something that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The bytes of the name.
    pub name: Range<usize>,
    /// The bytes of all of it.
    pub whole: Range<usize>,
}

/// What stands around a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// The import statements of the file.
    pub imports: Vec<Range<usize>>,
    /// The enclosing functions, classes and modules, outermost first.
    pub enclosing: Vec<Range<usize>>,
    /// The first lines of those, from the start to where the body starts.
    pub headers: Vec<Range<usize>>,
}

impl Grammar {
    /// How a file of this name is written.
    pub fn new(language: &'static Language, path: &Path) -> Grammar {
        Grammar { language, parser: language.parser(path) }
    }

    /// The language.
    pub fn language(self) -> &'static Language {
        self.language
    }

    /// What is open at the end of `text`.
    pub fn open(self, text: &str) -> Open {
        let mut open = Open::default();
        self.language.lex().scan(&mut open, text);
        open
    }

    /// What is open after `more`, coming from `open`; the result tells how deep it went down on the way.
    pub fn open_after(self, open: &Open, more: &str) -> Open {
        self.open_below(open, open.depth(), more)
    }

    /// The same, where going down to `floor` frames is no fall.
    pub(crate) fn open_below(self, open: &Open, floor: usize, more: &str) -> Open {
        let mut after = open.clone();
        after.watch(floor);
        self.language.lex().scan(&mut after, more);
        after
    }

    /// Parses a text; `None` where no tree-sitter grammar is linked and statements have no sign at their end either.
    pub fn parse(self, text: &str) -> Option<Syntax> {
        self.parse_from(text, None)
    }

    /// Parses `new`, which differs from `old`, the text of `syntax`, in that the bytes `replaced` became `by` bytes.
    pub fn parse_edited(
        self,
        syntax: &Syntax,
        old: &str,
        replaced: Range<usize>,
        new: &str,
        by: usize,
    ) -> Option<Syntax> {
        let Form::Tree(mut tree) = syntax.form.clone() else { return self.parse(new) };
        tree.edit(&InputEdit {
            start_byte: replaced.start,
            old_end_byte: replaced.end,
            new_end_byte: replaced.start + by,
            start_position: point(old, replaced.start),
            old_end_position: point(old, replaced.end),
            new_end_position: point(new, replaced.start + by),
        });
        self.parse_from(new, Some(&tree))
    }

    fn parse_from(self, text: &str, old: Option<&Tree>) -> Option<Syntax> {
        let Some(name) = self.parser else {
            return Some(Syntax { form: Form::Flat(self.statements(text)?.into()), grammar: self });
        };
        let mut parser = Parser::new();
        parser.set_language(&linked(name)?).ok()?;
        let tree = parser.parse(text, old)?;
        Some(Syntax { form: Form::Tree(tree), grammar: self })
    }

    /// Whether the last line of `text` says that it goes on.
    pub fn goes_on(self, text: &str) -> bool {
        let kinds = self.language.kinds();
        let text = text.trim_end_matches(['\n', '\r']);
        let line = text[text.rfind('\n').map_or(0, |newline| newline + 1)..].trim_start();
        kinds.line_end.as_deref().is_some_and(|sign| text.ends_with(sign))
            || kinds.line_start.iter().any(|sign| line.starts_with(sign.as_str()))
    }

    /// Whether a line that starts with `next` goes on with the statement before it.
    pub fn continues(self, next: &str) -> bool {
        let next = next.trim_start();
        self.language.kinds().continues.iter().any(|sign| next.starts_with(sign.as_str()))
    }
}

impl Syntax {
    /// How many errors and missing nodes touch the bytes `within`; of a text without a tree, how many of its statements have no end.
    pub fn errors(&self, within: Range<usize>) -> usize {
        self.error_ranges(within).len()
    }

    /// The errors and missing nodes that touch the bytes `within`; of a text without a tree, its statements that have no end.
    pub fn error_ranges(&self, within: Range<usize>) -> Vec<Range<usize>> {
        let tree = match &self.form {
            Form::Tree(tree) => tree,
            Form::Flat(statements) => {
                let touches = |one: &&Statement| {
                    one.range.end >= within.start && one.range.start <= within.end
                };
                let open = statements.iter().filter(touches).filter(|one| one.is_open());
                return open.map(|one| one.range.clone()).collect();
            }
        };
        let mut found = Vec::new();
        let mut stack = vec![tree.root_node()];
        while let Some(node) = stack.pop() {
            if !node.has_error() || node.end_byte() < within.start || node.start_byte() > within.end
            {
                continue;
            }
            if node.is_error() || node.is_missing() {
                found.push(node.byte_range());
                continue;
            }
            stack.extend(children(node));
        }
        found
    }

    /// Whether this tree has more errors in the bytes `within` than `base`, the tree of the text without them, has at `cursor`.
    pub fn breaks(&self, within: Range<usize>, base: &Syntax, cursor: usize) -> bool {
        self.errors(within) > base.errors(cursor..cursor)
    }

    /// The statement that holds the byte `at`: the innermost one that a block holds, where blocks inside an expression (the body of
    /// a callback) don't count.
    pub fn statement(&self, at: usize) -> Option<Range<usize>> {
        if let Form::Flat(statements) = &self.form {
            return around(statements, at).map(|one| one.range.clone());
        }
        self.holder(at).map(|node| node.byte_range())
    }

    /// Where the statement that holds the byte `at` ends; its header where that is a block's.
    pub fn statement_end(&self, at: usize) -> Option<usize> {
        let holder = self.holder(at)?;
        Some(self.header_end(holder, at).unwrap_or_else(|| holder.end_byte()))
    }

    /// Whether the statement that holds the byte `at` is over before `end`, given what the next line starts with (empty: nothing follows,
    /// or it is not known).
    pub fn settled(&self, text: &str, end: usize, at: usize, next: &str) -> bool {
        if let Form::Flat(statements) = &self.form {
            return around(statements, at).is_some_and(|one| one.has_end && one.range.end <= end);
        }
        let Some(holder) = self.holder(at) else { return false };
        let over = self.header_end(holder, at).unwrap_or_else(|| holder.end_byte());
        if over > end || holder.is_error() {
            return false;
        }
        let rest = text[over..end].trim();
        let goes_on = self.grammar.goes_on(&text[..end]);
        let last = rest.is_empty() || goes_on && !rest.contains('\n');
        if last && goes_on {
            return false;
        }
        !(last && !text[..over].ends_with(';') && self.grammar.continues(next))
    }

    /// Whether the scope that a deferred diagnostic at byte `at` waits for is over before `end`.
    pub fn scope_over(&self, text: &str, end: usize, at: usize, until: Until) -> bool {
        let kinds = self.kinds();
        let holder = match until {
            Until::Statement => return self.settled(text, end, at, ""),
            Until::Block => self.around(at, &kinds.blocks).next(),
            Until::Function => self.around(at, &kinds.functions).next(),
            Until::Item => match self.around(at, &kinds.items).last() {
                Some(item) => Some(item),
                None => return self.settled(text, end, at, ""),
            },
            Until::File => return false,
        };
        let Some(holder) = holder else { return false };
        let over = holder.end_byte();
        let braced = !self.grammar.language.indents() && text[..over].ends_with('}');
        over < end && (braced || self.has_code(&text[over..end]))
    }

    /// The statements of every block that is within a function, block by block.
    pub fn function_blocks(&self) -> Vec<Vec<Range<usize>>> {
        let kinds = self.kinds();
        let mut found = Vec::new();
        let mut stack: Vec<_> = self.root().into_iter().map(|root| (root, false)).collect();
        while let Some((node, inside)) = stack.pop() {
            let inside = inside || has(&kinds.functions, node);
            if inside && has(&kinds.blocks, node) {
                let statements = children(node).filter(Node::is_named);
                found.push(statements.map(|statement| statement.byte_range()).collect());
            }
            stack.extend(children(node).map(|child| (child, inside)));
        }
        found
    }

    /// Whether the byte `at` is in a string, and not in code that is put into one.
    pub fn in_string(&self, at: usize) -> bool {
        let mut kinds = std::iter::successors(self.leaf(at), Node::parent).map(|node| node.kind());
        let found = kinds.find(|kind| {
            ["string", "interpolation", "substitution"].iter().any(|part| kind.contains(part))
        });
        found.is_some_and(|kind| kind.contains("string"))
    }

    /// Whether the byte `at` is within a function.
    pub fn in_function(&self, at: usize) -> bool {
        self.around(at, &self.kinds().functions).next().is_some()
    }

    /// The nodes of these kinds that hold the byte `at`, the innermost first; not the whole text.
    fn around<'t>(&'t self, at: usize, kinds: &'t [String]) -> impl Iterator<Item = Node<'t>> {
        std::iter::successors(self.leaf(at), Node::parent)
            .filter(move |node| node.parent().is_some() && has(kinds, *node))
    }

    /// The ends of the statements of the outermost block, in order.
    pub fn statement_ends(&self) -> Vec<usize> {
        let tree = match &self.form {
            Form::Tree(tree) => tree,
            Form::Flat(statements) => return statements.iter().map(|one| one.range.end).collect(),
        };
        children(tree.root_node())
            .filter(|node| node.is_named())
            .map(|node| node.end_byte())
            .collect()
    }

    /// What stands around the byte `at`.
    pub fn context(&self, at: usize) -> Context {
        let kinds = self.kinds();
        let Some(root) = self.root() else { return Context::default() };
        let mut context = Context {
            imports: children(root)
                .filter(|node| has(&kinds.imports, *node))
                .map(|node| node.byte_range())
                .collect(),
            ..Context::default()
        };
        let mut node = self.leaf(at);
        while let Some(current) = node {
            if has(&kinds.items, current) {
                context.enclosing.insert(0, current.byte_range());
                let body = children(current).find(|child| has(&kinds.blocks, *child));
                context.headers.insert(
                    0,
                    current.start_byte()..body.map_or(current.end_byte(), |body| body.start_byte()),
                );
            }
            node = current.parent();
        }
        context
    }

    /// What has a name outside of functions: functions themselves, classes, their methods, types, constants. In the order of the text.
    pub fn definitions(&self) -> Vec<Definition> {
        let tree = match &self.form {
            Form::Tree(tree) => tree,
            Form::Flat(statements) => return statements.iter().filter_map(defined).collect(),
        };
        let kinds = self.kinds();
        let mut found = Vec::new();
        let mut cursor = tree.walk();
        loop {
            let node = cursor.node();
            if has(&kinds.items, node) || has(&kinds.definitions, node) {
                found.extend(
                    named(node).map(|name| Definition {
                        name: name.byte_range(),
                        whole: node.byte_range(),
                    }),
                );
            }
            if !has(&kinds.functions, node) && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    return found;
                }
            }
        }
    }

    /// The innermost node whose bytes are exactly `range` once blanks at its ends are left out, or that just holds it.
    pub fn node(&self, range: Range<usize>) -> (Range<usize>, &str) {
        let node = self.within(range.start, range.end);
        node.map_or((range, ""), |node| (node.byte_range(), node.kind()))
    }

    /// Whether there is a line that is neither blank nor a comment.
    fn has_code(&self, text: &str) -> bool {
        let sign = self.grammar.language.comment().line.as_str();
        text.lines().map(str::trim_start).any(|line| !line.is_empty() && !line.starts_with(sign))
    }

    /// The expressions that a diagnostic of `range` may be about: the node of the range itself, the value that is assigned or returned there,
    /// and the operands of a binary operation. The likelier first.
    pub fn expressions(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let Some(node) = self.within(range.start, range.end) else { return Vec::new() };
        let named = if node.is_named() { Some(node) } else { node.parent() };
        let mut found = if node.is_named() { vec![range.clone()] } else { Vec::new() };
        let returns = |node: &Node<'_>| node.kind().contains("return");
        let statement =
            named.filter(returns).or_else(|| named.and_then(|node| node.parent()).filter(returns));
        found.extend(
            statement
                .and_then(|statement| statement.named_child(0))
                .map(|child| child.byte_range()),
        );
        let mut up = named;
        for _ in 0..VALUE_LEVELS_MAX {
            let Some(current) = up else { break };
            let value = current
                .child_by_field_name("value")
                .or_else(|| current.child_by_field_name("right"));
            if let Some(value) = value
                .filter(|value| value.start_byte() >= range.start || value.byte_range() == range)
            {
                if value.start_byte() >= range.end {
                    found.clear(); // The range is what is assigned to.
                }
                found.push(value.byte_range());
                break;
            }
            up = current.parent();
        }
        if node.byte_range() == range && node.kind().contains("binary") {
            let sides =
                ["left", "right"].into_iter().filter_map(|side| node.child_by_field_name(side));
            found.extend(sides.map(|side| side.byte_range()));
        }
        let mut seen = Vec::new();
        found.retain(|range| {
            !range.is_empty() && !seen.contains(range) && (seen.push(range.clone()), true).1
        });
        found
    }

    /// The names in the bytes `within`, in order; members and types are left out where the grammar tells them apart.
    pub fn names(&self, within: Range<usize>) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut stack: Vec<Node<'_>> = self.root().into_iter().collect();
        while let Some(node) = stack.pop() {
            if node.end_byte() <= within.start || node.start_byte() >= within.end {
                continue;
            }
            if node.kind() == "identifier" {
                found.push(node.byte_range());
            }
            stack.extend(children(node));
        }
        found.sort_by_key(|range| range.start);
        found
    }

    /// The part before the dot of a member access, for a place inside or just behind it.
    pub fn receiver(&self, range: Range<usize>) -> Option<Range<usize>> {
        let mut node = self.within(range.start, range.end);
        for _ in 0..VALUE_LEVELS_MAX {
            let current = node?;
            if let Some(object) = current
                .child_by_field_name("object")
                .filter(|object| object.end_byte() <= range.end)
            {
                return Some(object.byte_range());
            }
            node = current.parent();
        }
        None
    }

    fn kinds(&self) -> &'static Kinds {
        self.grammar.language.kinds()
    }

    fn root(&self) -> Option<Node<'_>> {
        match &self.form {
            Form::Tree(tree) => Some(tree.root_node()),
            Form::Flat(_) => None,
        }
    }

    fn within(&self, start: usize, end: usize) -> Option<Node<'_>> {
        self.root()?.descendant_for_byte_range(start, end)
    }

    fn leaf(&self, at: usize) -> Option<Node<'_>> {
        self.within(at, at)
    }

    /// The node of [`Syntax::statement`].
    fn holder(&self, at: usize) -> Option<Node<'_>> {
        let kinds = self.kinds();
        let mut block = self.root()?;
        let mut holder = None;
        loop {
            let statement = child_at(block, at)?;
            holder = Some(statement).filter(|node| node.is_named()).or(holder);
            match self.inner_block(kinds, statement, at) {
                Some(inner) if child_at(inner, at).is_some_and(|node| node.is_named()) => {
                    block = inner
                }
                _ => return holder,
            }
        }
    }

    /// The block inside `statement` that holds `at` and that only transparent nodes lead to.
    fn inner_block<'t>(&self, kinds: &Kinds, statement: Node<'t>, at: usize) -> Option<Node<'t>> {
        let mut node = statement;
        while node.id() == statement.id()
            || has(&kinds.transparent, node)
            || has(&kinds.blocks, node)
        {
            if has(&kinds.blocks, node) {
                return Some(node);
            }
            if !has(&kinds.transparent, node) {
                return None;
            }
            node = child_at(node, at)?;
        }
        None
    }

    /// Where the header of a compound statement ends, for a place inside the header.
    fn header_end(&self, holder: Node<'_>, at: usize) -> Option<usize> {
        let kinds = self.kinds();
        let mut node = holder;
        while has(&kinds.transparent, node) {
            // What a decorator says of a function it says of all of it.
            if child_at(node, at).is_some_and(|child| child.kind() == "decorator") {
                return None;
            }
            if let Some(body) =
                children(node).find(|child| has(&kinds.blocks, *child) && child.start_byte() > at)
            {
                return Some(body.start_byte());
            }
            node = child_at(node, at)?;
        }
        None
    }
}

/// The statement that holds the byte `at`, or that it stands behind.
fn around(statements: &[Statement], at: usize) -> Option<&Statement> {
    let behind = statements.partition_point(|one| one.range.start <= at);
    statements[..behind].last()
}

fn defined(statement: &Statement) -> Option<Definition> {
    Some(Definition { name: statement.name.clone()?, whole: statement.range.clone() })
}

/// How far up a value or a receiver is looked for.
const VALUE_LEVELS_MAX: usize = 3;

/// How many declarators may stand around a name (`int *(*f)(void)`).
const DECLARATORS_MAX: usize = 8;

/// The name of a definition: its own, that of the type which an `impl` is for, or the innermost declarator's.
fn named(node: Node<'_>) -> Option<Node<'_>> {
    let name = node.child_by_field_name("name").or_else(|| node.child_by_field_name("type"));
    let mut inner = node.child_by_field_name("declarator");
    for _ in 0..DECLARATORS_MAX {
        match inner.and_then(|inner| inner.child_by_field_name("declarator")) {
            Some(next) => inner = Some(next),
            None => break,
        }
    }
    let mut name = inner.or(name)?;
    // `struct name` without a body is a use.
    if node.kind().ends_with("_specifier") && node.child_by_field_name("body").is_none() {
        return None;
    }
    // `ns::name`, `Type<T>`: the last name of a path, the first of what has parameters.
    while let Some(next) =
        name.child_by_field_name("name").or_else(|| name.child_by_field_name("type"))
    {
        name = next;
    }
    (!name.byte_range().is_empty()).then_some(name)
}

fn has(kinds: &[String], node: Node<'_>) -> bool {
    kinds.iter().any(|kind| kind == node.kind())
}

fn children(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    (0..node.child_count()).filter_map(move |index| node.child(index as _))
}

/// The child that holds the byte `at`; a named one before a sign where both touch it.
fn child_at(node: Node<'_>, at: usize) -> Option<Node<'_>> {
    let touching = |child: &Node<'_>| {
        child.start_byte() <= at && at < child.end_byte().max(child.start_byte() + 1)
    };
    children(node)
        .find(touching)
        .or_else(|| children(node).filter(|child| child.end_byte() == at).last())
}

fn point(text: &str, at: usize) -> Point {
    let before = &text.as_bytes()[..at];
    let line = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    Point { row: before.iter().filter(|byte| **byte == b'\n').count(), column: at - line }
}

fn linked(name: &str) -> Option<tree_sitter::Language> {
    Some(match name {
        "c" => tree_sitter_c::LANGUAGE.into(),
        "cpp" => tree_sitter_cpp::LANGUAGE.into(),
        "go" => tree_sitter_go::LANGUAGE.into(),
        "python" => tree_sitter_python::LANGUAGE.into(),
        "rust" => tree_sitter_rust::LANGUAGE.into(),
        "tsx" => tree_sitter_typescript::LANGUAGE_TSX.into(),
        "typescript" => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        _ => return None,
    })
}
