//! A statement's words, names and marks, without its comments and literals.

use std::borrow::Cow;

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword, a number or an unquoted name.
    Word(&'a str),
    /// A quoted name, without its quotes.
    Quoted(Cow<'a, str>),
    /// A literal.
    Literal,
    /// Anything else.
    Mark(char),
}

impl Token<'_> {
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own.eq_ignore_ascii_case(word))
    }

    /// The name that it may be.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) => Some(name),
            Self::Quoted(name) => Some(name),
            Self::Literal | Self::Mark(_) => None,
        }
    }
}

/// A statement's tokens. What executes inside `/*! */`, and TiDB's `/*T! */`, counts.
pub(super) struct Tokens<'a>(pub &'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.0 = self.0.trim_start();
            let first = self.0.chars().next()?;
            if let Some(rest) = after_comment(self.0) {
                self.0 = rest;
                continue;
            }
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            if is_word(first) {
                let end = self.0.find(|c| !is_word(c)).unwrap_or(self.0.len());
                let (word, rest) = self.0.split_at(end);
                self.0 = rest;
                return Some(Token::Word(word));
            }
            let mut rest = self.0.chars();
            rest.next();
            self.0 = rest.as_str();
            return Some(match first {
                '`' | '"' => Token::Quoted(self.quoted(first)),
                '\'' => {
                    self.literal();
                    Token::Literal
                }
                other => Token::Mark(other),
            });
        }
    }
}

impl<'a> Tokens<'a> {
    /// A name up to its closing quote; a doubled quote stands for one.
    fn quoted(&mut self, quote: char) -> Cow<'a, str> {
        let mut name = Cow::Borrowed("");
        loop {
            let Some((part, rest)) = self.0.split_once(quote) else {
                name += self.0;
                self.0 = "";
                return name;
            };
            name += part;
            match rest.strip_prefix(quote) {
                Some(rest) => {
                    name.to_mut().push(quote);
                    self.0 = rest;
                }
                None => {
                    self.0 = rest;
                    return name;
                }
            }
        }
    }

    /// Passes over a literal, in which a backslash takes the next character with it.
    fn literal(&mut self) {
        let mut chars = self.0.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => {
                    chars.next();
                }
                '\'' => break,
                _ => {}
            }
        }
        self.0 = chars.as_str();
    }
}

/// What follows a comment that begins here; what is inside, if that executes.
fn after_comment(text: &str) -> Option<&str> {
    if let Some(inside) = text.strip_prefix("/*") {
        let executed = ["!", "M!", "T!"].iter().find_map(|mark| inside.strip_prefix(mark));
        return Some(match executed {
            Some(executed) => {
                let executed = executed.trim_start_matches(|c: char| c.is_ascii_digit());
                match executed.strip_prefix('[') {
                    Some(feature) => feature.split_once(']').map_or("", |(_, after)| after),
                    None => executed,
                }
            }
            None => inside.split_once("*/").map_or("", |(_, after)| after),
        });
    }
    if let Some(rest) = text.strip_prefix("*/") {
        return Some(rest);
    }
    let is_line = text.starts_with('#')
        || text.strip_prefix("--").is_some_and(|rest| {
            rest.chars().next().is_none_or(|c| c.is_whitespace() || c.is_control())
        });
    is_line.then(|| text.split_once('\n').map_or("", |(_, after)| after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let written = |token: Token<'_>| match token {
            Token::Word(word) => word.to_owned(),
            Token::Quoted(name) => format!("<{name}>"),
            Token::Literal => "?".to_owned(),
            Token::Mark(mark) => mark.to_string(),
        };
        Tokens(text).map(written).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn names_comments_and_literals_are_told_apart() {
        for (text, expected) in [
            ("DROP TABLE `a b`.`c``d`;", "DROP TABLE <a b> . <c`d> ;"),
            ("drop/* x */table\ta", "drop table a"),
            ("-- hello\ndrop # more\ntable a--b", "drop table a - - b"),
            ("/*!40000 DROP */ /*T![ttl] TABLE */ x /*M!100 y*/", "DROP TABLE x y"),
            (r"SET 'it''s \' -- `x`' = '' ", "SET ? ? = ?"),
            ("\"db\".\"t\"", "<db> . <t>"),
            ("`open", "<open>"),
            ("'open", "?"),
            ("/* open", ""),
            ("größe_1$", "größe_1$"),
            ("", ""),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }
}
