//! Operators as Python has them.
//!
//! What `~`, `+` and `*` do is fixed in minijinja, and neither bounded nor Python's: `"is " ~ true` must be `is True`. So they are
//! spelled out as calls of functions of ours before a template is compiled. No line is added or removed, so that errors name
//! the template's own lines.

use minijinja::{
    Environment, Error, ErrorKind, Value,
    machinery::{
        WhitespaceConfig,
        ast::{self, BinOpKind, CallArg, Expr, Stmt},
        parse,
    },
    syntax::SyntaxConfig,
    value::{Rest, ValueKind},
};

use super::{budget::Budget, text};

/// The most operators in one expression: parsers descend into them.
const OPERATORS_MAX: usize = 1000;

/// The sign of an operator, and the function that it becomes.
fn function(kind: BinOpKind) -> Option<(char, &'static str)> {
    match kind {
        BinOpKind::Concat => Some(('~', "__join")),
        BinOpKind::Add => Some(('+', "__add")),
        BinOpKind::Mul => Some(('*', "__multiply")),
        _ => None,
    }
}

/// The template with its operators as calls. Transformers' own block, `generation`, only marks what the model wrote.
pub(super) fn spell_out(source: &str) -> Result<String, Error> {
    check_depth(source)?;
    let source = without_generation(source);
    let tree = parse(&source, "chat template", SyntaxConfig, WhitespaceConfig::default())?;
    let mut edits = Edits { source: &source, edits: Vec::new() };
    edits.statement(&tree);
    Ok(edits.apply())
}

/// Refuses expressions that would nest so deep that reading them takes the stack.
fn check_depth(source: &str) -> Result<(), Error> {
    for block in source.split("{{").flat_map(|part| part.split("{%")).skip(1) {
        let mut quote = None;
        let mut operators = 0;
        for c in block.chars() {
            match (c, quote) {
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                ('~' | '+' | '-' | '*' | '/' | '%' | '|' | '.' | '[' | '(', None) => operators += 1,
                ('}', None) => break,
                _ => {}
            }
        }
        if operators > OPERATORS_MAX {
            let reason = format!("an expression has more than {OPERATORS_MAX} operators");
            return Err(Error::new(ErrorKind::SyntaxError, reason));
        }
    }
    Ok(())
}

/// `{% generation %}` has no meaning for a prompt, but its white space has.
fn without_generation(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, block) = rest.split_at(at);
        plain.push_str(before);
        let end = block.find("%}").map_or(block.len(), |end| end + 2);
        let word = block[..end].trim_matches(|c: char| "{%}-+".contains(c) || c.is_whitespace());
        plain.push_str(&match word {
            "generation" => block[..end].replace("generation", "if true"),
            "endgeneration" => block[..end].replace("endgeneration", "endif"),
            _ => block[..end].to_owned(),
        });
        rest = &block[end..];
    }
    plain + rest
}

/// Pieces of text to put into the template, or over a character of it.
struct Edits<'s> {
    source: &'s str,
    /// Place, bytes to replace there, text. What opens is pushed before what it contains.
    edits: Vec<(usize, usize, &'static str)>,
}

impl Edits<'_> {
    fn apply(mut self) -> String {
        // Stable: at one place, outer calls open before inner ones.
        self.edits.sort_by_key(|(at, ..)| *at);
        let mut spelled = String::with_capacity(self.source.len() + 16 * self.edits.len());
        let mut from = 0;
        for (at, len, text) in self.edits {
            spelled.push_str(&self.source[from..at]);
            spelled.push_str(text);
            from = at + len;
        }
        spelled.push_str(&self.source[from..]);
        spelled
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::ForLoop(each) => {
                self.expression(&each.iter);
                self.maybe(each.filter_expr.as_ref());
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(with) => {
                with.assignments.iter().for_each(|(_, value)| self.expression(value));
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.expression(&set.expr),
            Stmt::SetBlock(set) => {
                self.maybe(set.filter.as_ref());
                self.statements(&set.body);
            }
            Stmt::AutoEscape(escape) => self.statements(&escape.body),
            Stmt::FilterBlock(filter) => {
                self.expression(&filter.filter);
                self.statements(&filter.body);
            }
            Stmt::Block(block) => self.statements(&block.body),
            Stmt::Macro(definition) => self.definition(definition),
            Stmt::CallBlock(block) => {
                self.call(&block.call);
                self.definition(&block.macro_decl);
            }
            Stmt::Do(call) => self.call(&call.call),
            _ => {}
        }
    }

    fn definition(&mut self, definition: &ast::Macro<'_>) {
        definition.defaults.iter().for_each(|value| self.expression(value));
        self.statements(&definition.body);
    }

    fn maybe(&mut self, expression: Option<&Expr<'_>>) {
        expression.into_iter().for_each(|expression| self.expression(expression));
    }

    fn call(&mut self, call: &ast::Call<'_>) {
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(value)
                | CallArg::Kwarg(_, value)
                | CallArg::PosSplat(value)
                | CallArg::KwargSplat(value) => {
                    self.expression(value);
                }
            }
        }
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                [&slice.start, &slice.stop, &slice.step]
                    .into_iter()
                    .for_each(|part| self.maybe(part.as_ref()));
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => self.binary(binary, false),
            Expr::Compare(comparison) => {
                self.expression(&comparison.expr);
                comparison.ops.iter().for_each(|operation| self.expression(&operation.expr));
            }
            Expr::IfExpr(condition) => {
                self.expression(&condition.true_expr);
                self.expression(&condition.test_expr);
                self.maybe(condition.false_expr.as_ref());
            }
            Expr::Filter(filter) => {
                self.maybe(filter.expr.as_ref());
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => {
                self.expression(&item.expr);
                self.expression(&item.subscript_expr);
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => list.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(map) => {
                map.keys.iter().chain(&map.values).for_each(|part| self.expression(part))
            }
        }
    }

    /// `is_inner`: its call is that of the operator around it, `a ~ b` in `a ~ b ~ c`.
    fn binary(&mut self, binary: &ast::Spanned<ast::BinOp<'_>>, is_inner: bool) {
        let (start, end) = (binary.span().start_offset as usize, binary.span().end_offset as usize);
        let Some((name, at)) = self.place(binary, end) else {
            self.expression(&binary.left);
            self.expression(&binary.right);
            return;
        };
        if !is_inner {
            self.edits.push((start, 0, name));
            self.edits.push((start, 0, "("));
        }
        match &binary.left {
            Expr::BinOp(left) if self.is_chained(left, binary, at) => self.binary(left, true),
            left => self.expression(left),
        }
        self.edits.push((at, 1, ","));
        self.expression(&binary.right);
        if !is_inner {
            self.edits.push((end, 0, ")"));
        }
    }

    /// The function for the operator, and where its sign stands.
    fn place(&self, binary: &ast::BinOp<'_>, end: usize) -> Option<(&'static str, usize)> {
        let (sign, name) = function(binary.op)?;
        // Between the operands stand nothing but white space and parentheses.
        let after_left = span_end(&binary.left);
        let gap = self.source.get(after_left..end)?;
        let at = gap.find(sign)?;
        gap[..at].chars().all(|c| c.is_whitespace() || c == ')').then_some((name, after_left + at))
    }

    /// Whether the left operand is the same operator, and not in parentheses.
    fn is_chained(
        &self,
        left: &ast::Spanned<ast::BinOp<'_>>,
        binary: &ast::Spanned<ast::BinOp<'_>>,
        at: usize,
    ) -> bool {
        let end = left.span().end_offset as usize;
        let is_same = function(left.op).is_some() && function(left.op) == function(binary.op);
        is_same
            && left.span().start_offset == binary.span().start_offset
            && !self.source[end..at].contains(')')
            && self.place(left, end).is_some()
    }
}

fn span_end(expression: &Expr<'_>) -> usize {
    expression.span().end_offset as usize
}

pub(super) fn add(environment: &mut Environment<'static>, budget: &Budget) {
    let counted = budget.clone();
    environment.add_function("__join", move |parts: Rest<Value>| {
        let joined: String = parts.iter().map(text::python).collect();
        counted.spend(joined.len()).map(|()| joined)
    });
    let counted = budget.clone();
    environment.add_function("__add", move |parts: Rest<Value>| {
        fold(&parts, |left, right| plus(&counted, left, right))
    });
    let counted = budget.clone();
    environment.add_function("__multiply", move |parts: Rest<Value>| {
        fold(&parts, |left, right| times(&counted, left, right))
    });
}

fn fold(
    parts: &[Value],
    operation: impl Fn(&Value, &Value) -> Result<Value, Error>,
) -> Result<Value, Error> {
    let (first, rest) =
        parts.split_first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    rest.iter().try_fold(first.clone(), |left, right| operation(&left, right))
}

fn plus(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    match (left.as_str(), right.as_str()) {
        (Some(left), Some(right)) => {
            budget.spend(left.len() + right.len())?;
            Ok(Value::from([left, right].concat()))
        }
        (None, None) if is_list(left) && is_list(right) => {
            Budget::items(
                left.len().zip(right.len()).and_then(|(left, right)| left.checked_add(right)),
            )?;
            Ok(Value::from(left.try_iter()?.chain(right.try_iter()?).collect::<Vec<_>>()))
        }
        (None, None) => arithmetic(left, right, '+', i128::checked_add, |left, right| left + right),
        _ => Err(impossible(left, '+', right)),
    }
}

fn times(budget: &Budget, left: &Value, right: &Value) -> Result<Value, Error> {
    let repeated = |items: &Value, count: &Value| -> Option<Result<Value, Error>> {
        let count = i64::try_from(count.clone()).ok()?.max(0) as usize;
        if let Some(text) = items.as_str() {
            let len = text.len().saturating_mul(count);
            return Some(budget.spend(len).map(|()| Value::from(text.repeat(count))));
        }
        if !matches!(items.kind(), ValueKind::Seq | ValueKind::Iterable) {
            return None;
        }
        let checked = Budget::items(items.len().and_then(|len| len.checked_mul(count)));
        Some(checked.and_then(|()| {
            let items: Vec<Value> = items.try_iter()?.collect();
            Ok(Value::from(std::iter::repeat_n(items, count).flatten().collect::<Vec<_>>()))
        }))
    };
    repeated(left, right).or_else(|| repeated(right, left)).unwrap_or_else(|| {
        arithmetic(left, right, '*', i128::checked_mul, |left, right| left * right)
    })
}

fn arithmetic(
    left: &Value,
    right: &Value,
    sign: char,
    whole: fn(i128, i128) -> Option<i128>,
    real: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    // Truth values count in Python.
    let number = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number => Some(value.clone()),
        _ => None,
    };
    let (Some(a), Some(b)) = (number(left), number(right)) else {
        return Err(impossible(left, sign, right));
    };
    if a.is_integer() && b.is_integer() {
        let (a, b) = (i128::try_from(a)?, i128::try_from(b)?);
        return whole(a, b).map(Value::from).ok_or_else(|| impossible(left, sign, right));
    }
    Ok(Value::from(real(f64::try_from(a)?, f64::try_from(b)?)))
}

fn impossible(left: &Value, sign: char, right: &Value) -> Error {
    let reason = format!("{} {sign} {} is not defined", left.kind(), right.kind());
    Error::new(ErrorKind::InvalidOperation, reason)
}
