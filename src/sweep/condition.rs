//! Conditions on configurations and results: `model.backbone = "xception" and not train.ema`.

use serde_json::Value;

use crate::config::{canonical, step_into};

/// A condition that has been read.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Or(Vec<Node>),
    And(Vec<Node>),
    Not(Box<Node>),
    Compare(String, Operator, Value),
    OneOf(String, Vec<Value>),
    /// A key alone: true if its value is `true`.
    Flag(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer ones first.
const OPERATORS: [(&str, Operator); 7] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// What a condition may look like, for help.
pub const EXAMPLE: &str =
    "for example `model.backbone = \"xception\" and train.batch_size in [16, 32]`";

/// Deeper parentheses are refused.
const DEEPEST: usize = 50;

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader {
            rest: text,
            depth: 0,
        };
        let node = reader.either()?;
        match reader.rest.trim() {
            "" => Ok(Self(node)),
            rest => Err(format!("`{rest}` is not expected there")),
        }
    }

    /// Whether it holds of a configuration. A key that is not there is equal to nothing.
    pub fn holds(&self, of: &Value) -> bool {
        self.0.holds(of)
    }

    /// The keys that it asks for.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        self.0.keys(&mut keys);
        keys
    }
}

impl Node {
    fn holds(&self, of: &Value) -> bool {
        match self {
            Self::Or(nodes) => nodes.iter().any(|node| node.holds(of)),
            Self::And(nodes) => nodes.iter().all(|node| node.holds(of)),
            Self::Not(node) => !node.holds(of),
            Self::Compare(key, operator, wanted) => {
                operator.holds(step_into(of, key).unwrap_or(&Value::Null), wanted)
            }
            Self::OneOf(key, wanted) => {
                let found = step_into(of, key).unwrap_or(&Value::Null);
                wanted.iter().any(|it| Operator::Equal.holds(found, it))
            }
            Self::Flag(key) => step_into(of, key) == Some(&Value::Bool(true)),
        }
    }

    fn keys<'a>(&'a self, keys: &mut Vec<&'a str>) {
        match self {
            Self::Or(nodes) | Self::And(nodes) => nodes.iter().for_each(|node| node.keys(keys)),
            Self::Not(node) => node.keys(keys),
            Self::Compare(key, ..) | Self::OneOf(key, _) | Self::Flag(key) => keys.push(key),
        }
    }
}

impl Operator {
    fn holds(self, found: &Value, wanted: &Value) -> bool {
        use std::cmp::Ordering;
        let order = match (found, wanted) {
            (Value::Number(a), Value::Number(b)) => a
                .as_f64()
                .zip(b.as_f64())
                .and_then(|(a, b)| a.partial_cmp(&b)),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (a, b) if a == b => Some(Ordering::Equal),
            _ => None,
        };
        match self {
            Self::Equal => order == Some(Ordering::Equal),
            Self::NotEqual => order != Some(Ordering::Equal),
            Self::Less => order == Some(Ordering::Less),
            Self::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Greater => order == Some(Ordering::Greater),
            Self::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn either(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.both()?];
        while self.word("or") {
            nodes.push(self.both()?);
        }
        Ok(only(nodes).unwrap_or_else(Node::Or))
    }

    fn both(&mut self) -> Result<Node, String> {
        let mut nodes = vec![self.one()?];
        while self.word("and") {
            nodes.push(self.one()?);
        }
        Ok(only(nodes).unwrap_or_else(Node::And))
    }

    fn one(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("it is nested too deep".into());
        }
        let node = if self.word("not") {
            Node::Not(Box::new(self.one()?))
        } else if self.symbol("(") {
            let node = self.either()?;
            if !self.symbol(")") {
                return Err("a `(` is not closed".into());
            }
            node
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn comparison(&mut self) -> Result<Node, String> {
        let key = self.key()?;
        if self.word("in") {
            return match self.value()? {
                Value::Array(values) => Ok(Node::OneOf(key, values)),
                other => Err(format!(
                    "`in` wants an array such as `[16, 32]`, not `{other}`"
                )),
            };
        }
        let operator = OPERATORS.into_iter().find(|(sign, _)| self.symbol(sign));
        match operator {
            Some((_, operator)) => Ok(Node::Compare(key, operator, self.value()?)),
            None => Ok(Node::Flag(key)),
        }
    }

    fn key(&mut self) -> Result<String, String> {
        self.rest = self.rest.trim_start();
        let mut brackets = 0usize;
        let ends = |c: char| {
            match c {
                '[' => brackets += 1,
                ']' => brackets = brackets.saturating_sub(1),
                _ => {}
            }
            brackets == 0 && (c.is_whitespace() || "=!<>()".contains(c))
        };
        let length = self.rest.find(ends).unwrap_or(self.rest.len());
        let (key, rest) = self.rest.split_at(length);
        if key.is_empty() {
            return Err(match rest.trim() {
                "" => "it ends where a key is expected".into(),
                rest => format!("a key is expected at `{rest}`"),
            });
        }
        self.rest = rest;
        canonical(key).map_err(|reason| format!("`{key}` is no key: {reason}"))
    }

    /// A TOML value; a bare word stands for a string.
    fn value(&mut self) -> Result<Value, String> {
        self.rest = self.rest.trim_start();
        let length = match self.rest.chars().next() {
            None => return Err("it ends where a value is expected".into()),
            Some(quote @ ('"' | '\'')) => {
                let end = self.rest[1..].find(quote);
                end.ok_or("a quote is not closed")? + 2
            }
            Some('[') => {
                let mut open = 0usize;
                let closes = |c: char| {
                    match c {
                        '[' => open += 1,
                        ']' => open -= 1,
                        _ => {}
                    }
                    open == 0
                };
                self.rest.find(closes).ok_or("a `[` is not closed")? + 1
            }
            Some(_) => {
                let ends = |c: char| c.is_whitespace() || "()".contains(c);
                self.rest.find(ends).unwrap_or(self.rest.len())
            }
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        let read: Result<Holder, _> = toml::from_str(&format!("value = {text}"));
        match read {
            Ok(holder) => Ok(holder.value),
            Err(_) if !text.starts_with(['"', '\'', '[']) && !text.is_empty() => {
                Ok(Value::String(text.into()))
            }
            Err(_) => Err(format!("`{text}` is no value")),
        }
    }

    fn symbol(&mut self, sign: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(sign);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(word);
        let found = found.filter(|rest| rest.starts_with([' ', '\t', '(', '[']));
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }
}

#[derive(serde::Deserialize)]
struct Holder {
    value: Value,
}

/// The only one of several, or all of them.
fn only(mut nodes: Vec<Node>) -> Result<Node, Vec<Node>> {
    match (nodes.len(), nodes.pop()) {
        (1, Some(node)) => Ok(node),
        (_, last) => {
            nodes.extend(last);
            Err(nodes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(text: &str) -> bool {
        let config = json!({
            "seed": 3,
            "model": { "backbone": "xception" },
            "train": { "batch_size": 16, "ema": true, "image_size": [160, 160] },
            "phase": [{ "lr": 0.001 }, { "lr": 1e-5 }],
        });
        Condition::parse(text).unwrap().holds(&config)
    }

    #[test]
    fn conditions_hold_or_not() {
        for yes in [
            "model.backbone = \"xception\"",
            "model.backbone == 'xception' and seed != 4",
            "model.backbone = xception",
            "train.batch_size in [8, 16]",
            "train.batch_size<=16 and phase[1].lr < 1e-4",
            "phase.0.lr = 0.001",
            "train.ema",
            "not train.amp",
            "seed = 1 or seed = 2 or seed = 3",
            "seed = 3 or seed = 2 and seed = 1",
            "not (seed = 1 or train.batch_size > 16.0)",
            "train.image_size = [160, 160]",
            "train.image_size in [[160, 160], [224, 224]]",
            "missing != 1",
            "seed = 3.0",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "missing = 1",
            "missing < 1",
            "(seed = 3 or seed = 2) and seed = 1",
            "model.backbone > 3",
            "train.batch_size in []",
            "seed",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &str| Condition::parse(text).unwrap_err();
        assert_eq!(wrong(""), "it ends where a key is expected");
        assert_eq!(wrong("seed ="), "it ends where a value is expected");
        assert_eq!(
            wrong("seed = 1 seed = 2"),
            "`seed = 2` is not expected there"
        );
        assert_eq!(wrong("(seed = 1"), "a `(` is not closed");
        assert_eq!(wrong("a = \"b"), "a quote is not closed");
        assert_eq!(
            wrong("a in 3"),
            "`in` wants an array such as `[16, 32]`, not `3`"
        );
        assert!(wrong(&"(".repeat(1000)).contains("too deep"));
        let keys = Condition::parse("a.b = 1 and not (c[0].d or e in [1])").unwrap();
        assert_eq!(keys.keys(), ["a.b", "c[0].d", "e"]);
    }
}
