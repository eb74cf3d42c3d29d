//! A minimal reader of Rust: words and signs without comments, literals and test items, and from them the
//! paths that a file names.

use std::path::{Path, PathBuf};

/// What a file says, as far as the rules care.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// The modules from the crate's root to this file, then those that it declares.
    pub(crate) modules: Vec<String>,
    /// The crate's own top modules that are named, with their line.
    pub(crate) imports: Vec<(usize, String)>,
    /// The first segments of `use` lines.
    pub(crate) uses: Vec<(usize, String)>,
    /// Every word, with its line.
    pub(crate) words: Vec<(usize, String)>,
    /// The words that begin a path or a `use`.
    pub(crate) crates: Vec<String>,
    /// The modules that are compiled for tests only, as paths without extension.
    pub(crate) test_modules: Vec<PathBuf>,
    /// Lines with code that is no test.
    pub(crate) lines_of_code: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Source {
    /// Reads a file; `path` is relative to `src`.
    pub(crate) fn read(path: &Path, text: &str) -> Self {
        let own = module_of(path);
        let (tokens, tests) = without_tests(tokens(text));
        let folder = own.iter().collect::<PathBuf>();
        let mut lines: Vec<usize> = tokens.iter().map(|token| token.line).collect();
        lines.dedup();
        let mut source = Self {
            modules: own.clone(),
            test_modules: tests.iter().map(|name| folder.join(name)).collect(),
            lines_of_code: lines.len(),
            ..Self::default()
        };
        source.walk(&tokens, own);
        source
    }

    /// The top module that the file belongs to.
    pub(crate) fn layer(&self) -> &str {
        self.modules.first().map_or("lib", String::as_str)
    }

    fn walk(&mut self, tokens: &[Token], own: Vec<String>) {
        let mut module = own;
        let mut depth = 0;
        let mut inline: Vec<usize> = Vec::new();
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
        for (index, token) in tokens.iter().enumerate() {
            let word = token.text.as_str();
            let begins = index == 0 || text(index - 1) != "::";
            match word {
                "{" => depth += 1,
                "}" => {
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        module.pop();
                    }
                    depth -= 1;
                }
                "mod" if is_word(text(index + 1)) => {
                    self.modules.push(text(index + 1).to_owned());
                    if text(index + 2) == "{" {
                        module.push(text(index + 1).to_owned());
                        inline.push(depth + 1);
                    }
                }
                "use" => {
                    let first = if text(index + 1) == "::" {
                        index + 2
                    } else {
                        index + 1
                    };
                    self.uses.push((token.line, text(first).to_owned()));
                    self.crates.push(text(first).to_owned());
                }
                "crate" | "self" | "super" | "mamparo" if begins && text(index + 1) == "::" => {
                    tree(tokens, index, &mut Vec::new(), &module, &mut self.imports);
                }
                _ => {}
            }
            if is_word(word) {
                self.words.push((token.line, word.to_owned()));
                if begins && text(index + 1) == "::" {
                    self.crates.push(word.to_owned());
                }
            }
        }
    }
}

/// Reads a path or a tree of paths from `at` on, and adds the top module of each; returns where it ends.
fn tree(
    tokens: &[Token],
    at: usize,
    path: &mut Vec<String>,
    module: &[String],
    found: &mut Vec<(usize, String)>,
) -> usize {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    let line = tokens.get(at).map_or(0, |token| token.line);
    let known = path.len();
    let mut index = at;
    while is_word(text(index)) {
        path.push(text(index).to_owned());
        index += 1;
        if text(index) != "::" {
            break;
        }
        index += 1;
    }
    if text(index) == "{" && text(index - 1) == "::" {
        index += 1;
        while index < tokens.len() && text(index) != "}" {
            index = tree(tokens, index, path, module, found).max(index + 1);
        }
        index += 1;
    } else if let Some(top) = top_module(path, module) {
        found.push((line, top));
    }
    path.truncate(known);
    index
}

/// The crate's top module that a path leads to, seen from `module`.
fn top_module(path: &[String], module: &[String]) -> Option<String> {
    let mut place = module.to_vec();
    for segment in path {
        match segment.as_str() {
            "crate" | "mamparo" => place.clear(),
            "self" => {}
            "super" => {
                place.pop();
            }
            name => {
                place.push(name.to_owned());
                break;
            }
        }
    }
    place.into_iter().next()
}

/// `live/router.rs` is `live::router`, `live/mod.rs` is `live`, `lib.rs` the root.
fn module_of(path: &Path) -> Vec<String> {
    let without = path.with_extension("");
    let mut module: Vec<String> = without
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
        module.pop();
    }
    module
}

/// Leaves out every item under `#[cfg(test)]`; the names of modules that lie in files of their own are
/// returned beside.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if !is_test_attribute(&tokens[index..]) {
            kept.push(tokens[index].clone());
            index += 1;
            continue;
        }
        let mut item = index;
        while texts(&tokens[item..], &["#", "["]) {
            item += closing(&tokens[item + 1..]) + 2;
        }
        let mut end = item;
        while end < tokens.len() && tokens[end].text != ";" && tokens[end].text != "{" {
            let opens = matches!(tokens[end].text.as_str(), "(" | "[");
            end += if opens {
                closing(&tokens[end..]) + 1
            } else {
                1
            };
        }
        if tokens.get(end).is_some_and(|token| token.text == "{") {
            end += closing(&tokens[end..]);
        } else if let Some(word) = tokens[item..end]
            .iter()
            .position(|token| token.text == "mod")
        {
            modules.extend(tokens.get(item + word + 1).map(|token| token.text.clone()));
        }
        index = end + 1;
    }
    (kept, modules)
}

/// `#[cfg(test)]`, and `#[cfg(all(test, …))]`; not `#[cfg(not(test))]`.
fn is_test_attribute(tokens: &[Token]) -> bool {
    texts(tokens, &["#", "[", "cfg", "(", "test"])
        || texts(tokens, &["#", "[", "cfg", "(", "all", "(", "test"])
}

fn texts(tokens: &[Token], expected: &[&str]) -> bool {
    tokens.len() >= expected.len()
        && expected
            .iter()
            .zip(tokens)
            .all(|(text, token)| token.text == *text)
}

/// How far the bracket that closes the first one is away.
fn closing(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words and signs; `::` is one sign. Comments are left out; of a literal only its opening quote stays.
fn tokens(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let (mut index, mut line) = (0, 1);
    let mut tokens = Vec::new();
    while index < characters.len() {
        let start = index;
        let c = at(index);
        let mut token = None;
        if c.is_whitespace() {
            index += 1;
        } else if c == '/' && at(index + 1) == '/' {
            index += characters[index..]
                .iter()
                .take_while(|c| **c != '\n')
                .count();
        } else if c == '/' && at(index + 1) == '*' {
            index = end_of_comment(&characters, index);
        } else if let Some(end) = end_of_literal(&characters, index) {
            token = Some("\"".to_owned());
            index = end;
        } else if c.is_alphanumeric() || c == '_' {
            let word = |c: &&char| c.is_alphanumeric() || **c == '_';
            index += characters[index..].iter().take_while(word).count();
            token = Some(characters[start..index].iter().collect());
        } else {
            index += if c == ':' && at(index + 1) == ':' {
                2
            } else {
                1
            };
            token = Some(characters[start..index].iter().collect());
        }
        tokens.extend(token.map(|text| Token { line, text }));
        line += characters[start..index]
            .iter()
            .filter(|c| **c == '\n')
            .count();
    }
    tokens
}

fn end_of_comment(characters: &[char], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut index = start;
    while index < characters.len() {
        match (characters[index], characters.get(index + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                index += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                index += 2;
                if depth == 0 {
                    return index;
                }
            }
            _ => index += 1,
        }
    }
    index
}

/// Where the string or character literal that begins at `start` ends, if one begins there. A lifetime is
/// none.
fn end_of_literal(characters: &[char], start: usize) -> Option<usize> {
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut index = start;
    if matches!(at(index), 'b' | 'c') && matches!(at(index + 1), '"' | '\'' | 'r') {
        index += 1;
    }
    if at(index) == 'r' {
        let hashes = characters[index + 1..]
            .iter()
            .take_while(|c| **c == '#')
            .count();
        if at(index + 1 + hashes) != '"' {
            return None;
        }
        let closes = |end: &usize| at(*end) == '"' && (1..=hashes).all(|i| at(end + i) == '#');
        let end = (index + 2 + hashes..characters.len()).find(closes)?;
        return Some(end + 1 + hashes);
    }
    let quote = at(index);
    let is_character = quote == '\'' && (at(index + 1) == '\\' || at(index + 2) == '\'');
    if quote != '"' && !is_character {
        return None;
    }
    index += 1;
    while index < characters.len() && at(index) != quote {
        index += if at(index) == '\\' { 2 } else { 1 };
    }
    Some(index + 1)
}
