//! What is looked for in one file, on its syntax tree: comments and strings cannot mislead it.

use std::fmt;
use std::fs;
use std::path::Path;

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::walk;

/// Something that should not be there.
#[derive(Debug)]
pub struct Finding {
    path: String,
    pub line: usize,
    what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// One Rust file.
pub struct Source {
    /// Its path below the workspace's root.
    pub path: String,
    pub text: String,
    tree: syn::File,
}

impl Source {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("UTF-8");
        let below = path.strip_prefix(walk::root()).expect("in the workspace");
        Self::parse(below.to_str().expect("UTF-8"), &text)
    }

    pub fn parse(path: &str, text: &str) -> Self {
        let tree = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text: text.to_owned(), tree }
    }

    pub fn finding(&self, line: usize, what: String) -> Finding {
        Finding { path: self.path.clone(), line, what }
    }

    fn collect(&self, mut visitor: impl for<'a> Visit<'a> + Into<Found>) -> Vec<Finding> {
        visitor.visit_file(&self.tree);
        let mut found: Found = visitor.into();
        found.sort_by_key(|(line, _)| *line);
        found.into_iter().map(|(line, what)| self.finding(line, what)).collect()
    }

    /// Functions of `lines` lines or more.
    pub fn long_functions(&self, lines: usize) -> Vec<Finding> {
        self.collect(Lengths { lines, found: Found::new() })
    }

    /// Clocks, randomness, spawning and sleeping, outside of `#[cfg(test)]`.
    pub fn impure_calls(&self) -> Vec<Finding> {
        self.collect(Impure::default())
    }

    /// What was left for later, and tests that do not run.
    pub fn unfinished(&self) -> Vec<Finding> {
        self.collect(Unfinished::default())
    }

    /// Metrics that are named where they are recorded, and so missing from the lists.
    pub fn literal_metrics(&self) -> Vec<Finding> {
        self.collect(LiteralMetrics::default())
    }
}

type Found = Vec<(usize, String)>;

fn line(span: Span) -> usize {
    span.start().line
}

struct Lengths {
    lines: usize,
    found: Found,
}

impl Lengths {
    fn check(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (line(signature.span()), block.span().end().line);
        let lines = last + 1 - first;
        if lines >= self.lines {
            self.found.push((first, format!("fn {} has {lines} lines", signature.ident)));
        }
    }
}

impl From<Lengths> for Found {
    fn from(lengths: Lengths) -> Self {
        lengths.found
    }
}

impl<'a> Visit<'a> for Lengths {
    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        self.check(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        self.check(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.check(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[derive(Default)]
struct Impure {
    found: Found,
}

impl From<Impure> for Found {
    fn from(impure: Impure) -> Self {
        impure.found
    }
}

impl Impure {
    fn check(&mut self, at: Span, names: &[String]) {
        let pair = |a: &str, b: &str| names.windows(2).any(|two| two[0] == a && two[1] == b);
        let first = names.first().map(String::as_str);
        let last = names.last().map(String::as_str);
        let bad = pair("SystemTime", "now")
            || pair("Instant", "now")
            || pair("thread", "sleep")
            || (first == Some("rand") && names.len() > 1)
            || (last == Some("spawn") && names.len() > 1);
        if bad {
            self.found.push((line(at), names.join("::")));
        }
    }

    /// Macros are not parsed: their tokens are read as paths, name by name.
    fn check_tokens(&mut self, tokens: TokenStream) {
        let mut names: Vec<String> = Vec::new();
        let mut at = Span::call_site();
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    at = name.span();
                    names.push(name.to_string());
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => {}
                TokenTree::Group(group) => {
                    self.check(at, &std::mem::take(&mut names));
                    self.check_tokens(group.stream());
                }
                _ => self.check(at, &std::mem::take(&mut names)),
            }
        }
        self.check(at, &names);
    }

    fn check_import(&mut self, tree: &syn::UseTree, path: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.check_import(&part.tree, path);
                path.pop();
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|item| self.check_import(item, path));
            }
            syn::UseTree::Name(name) => self.check_imported(&name.ident, path),
            syn::UseTree::Rename(name) => self.check_imported(&name.ident, path),
            syn::UseTree::Glob(_) => {}
        }
    }

    fn check_imported(&mut self, name: &syn::Ident, path: &[String]) {
        let clock = name == "Instant" || name == "SystemTime";
        if clock || path.first().is_some_and(|first| first == "rand") {
            self.found.push((line(name.span()), format!("use of {}::{name}", path.join("::"))));
        }
    }
}

/// True for `#[cfg(test)]`.
fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|argument| argument == "test")
    })
}

impl<'a> Visit<'a> for Impure {
    fn visit_item_mod(&mut self, module: &'a syn::ItemMod) {
        if !is_test_only(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !is_test_only(&item.attrs) {
            self.check_import(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.check(path.span(), &names);
        visit::visit_path(self, path);
    }

    fn visit_expr_call(&mut self, call: &'a syn::ExprCall) {
        if let syn::Expr::Path(function) = &*call.func
            && function.path.is_ident("spawn")
        {
            self.found.push((line(call.span()), "spawn".to_owned()));
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'a syn::ExprMethodCall) {
        if call.method == "spawn" {
            self.found.push((line(call.method.span()), "spawn".to_owned()));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, called: &'a syn::Macro) {
        self.check_tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

#[derive(Default)]
struct Unfinished {
    found: Found,
}

impl From<Unfinished> for Found {
    fn from(unfinished: Unfinished) -> Self {
        unfinished.found
    }
}

impl<'a> Visit<'a> for Unfinished {
    fn visit_macro(&mut self, called: &'a syn::Macro) {
        if called.path.is_ident("todo") || called.path.is_ident("unimplemented") {
            self.found.push((line(called.path.span()), "left for later".to_owned()));
        }
        visit::visit_macro(self, called);
    }

    fn visit_attribute(&mut self, attribute: &'a syn::Attribute) {
        let nested = match &attribute.meta {
            syn::Meta::List(list) if attribute.path().is_ident("cfg_attr") => list
                .tokens
                .clone()
                .into_iter()
                .any(|token| matches!(token, TokenTree::Ident(name) if name == "ignore")),
            _ => false,
        };
        if nested || attribute.path().is_ident("ignore") {
            self.found.push((line(attribute.span()), "a test that does not run".to_owned()));
        }
    }
}

#[derive(Default)]
struct LiteralMetrics {
    found: Found,
}

impl From<LiteralMetrics> for Found {
    fn from(literal: LiteralMetrics) -> Self {
        literal.found
    }
}

impl<'a> Visit<'a> for LiteralMetrics {
    fn visit_macro(&mut self, called: &'a syn::Macro) {
        let name = called.path.segments.last().map(|part| part.ident.to_string());
        let records = name.is_some_and(|name| {
            matches!(name.trim_start_matches("describe_"), "counter" | "gauge" | "histogram")
        });
        let first = called.tokens.clone().into_iter().next();
        if records && matches!(first, Some(TokenTree::Literal(_))) {
            let what = "a metric named by a literal; name it in metrics.rs".to_owned();
            self.found.push((line(called.path.span()), what));
        }
        visit::visit_macro(self, called);
    }
}
