//! `${NAME}` and `${{ secrets.NAME }}` in the texts of a file: what stands for them, and what does not.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::field::Problem;
use super::node::{Node, Place, Value};
use crate::hidden::percent_encoded;

/// Where names are looked up.
pub trait Names {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// A secret that the file names.
    fn secret(&self, name: &str) -> Option<String>;
    /// The bytes of a module of `transforms`, which was tried: each record is one row, so it makes one of one at most.
    ///
    /// # Errors
    /// What of the file is wrong.
    fn module(&self, wanted: &Wanted<'_>) -> Result<Arc<[u8]>, BadModule>;
}

/// A module that a file asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The file that asks.
    pub file: &'a Path,
    pub uses: &'a str,
    pub with: &'a BTreeMap<String, String>,
}

/// Why a module cannot stand in `transforms`, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadModule {
    /// The module.
    Uses(String),
    /// Its parameters.
    With(String),
}

fn is_variable(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.contains(['{', '}']))
}

/// What is put in, and what comes of it.
pub struct Substitution<'a> {
    pub names: &'a dyn Names,
    /// The secrets that the file says it uses.
    pub declared: Vec<String>,
    /// Values of the secrets that were put in.
    pub secrets: Vec<String>,
    /// Where a variable stands for all that there is: it may be a number.
    pub variables: BTreeSet<Place>,
    pub problems: Vec<Problem>,
}

impl<'a> Substitution<'a> {
    pub const fn new(names: &'a dyn Names, declared: Vec<String>) -> Self {
        Self { names, declared, secrets: Vec::new(), variables: BTreeSet::new(), problems: Vec::new() }
    }

    /// Puts values in the place of names in all texts below `node`; secrets only where they `may` stand.
    pub fn put(&mut self, node: &mut Node, may: bool) {
        match &mut node.value {
            Value::Text(text) => {
                if is_variable(text) {
                    self.variables.insert(node.at);
                }
                *text = self.replaced(text, node.at, may);
            }
            Value::List(nodes) => nodes.iter_mut().for_each(|node| self.put(node, may)),
            Value::Map(entries) => entries.iter_mut().for_each(|entry| self.put(&mut entry.node, may)),
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
        }
    }

    /// The same in `transforms`, where secrets may stand in parameters alone: what a module is called is printed.
    pub fn put_in_transforms(&mut self, node: &mut Node) {
        let Value::List(entries) = &mut node.value else { return self.put(node, false) };
        for entry in entries {
            match &mut entry.value {
                Value::Map(keys) => keys.iter_mut().for_each(|key| self.put(&mut key.node, key.key == "with")),
                _ => self.put(entry, false),
            }
        }
    }

    fn replaced(&mut self, text: &str, at: Place, may: bool) -> String {
        let Self { names, declared, secrets, problems, .. } = self;
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut problem = |message: String| problems.push(Problem { at, message });
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let (inner, close) = match after.strip_prefix('{') {
                Some(inner) => (inner, "}}"),
                None => (after, "}"),
            };
            let Some((name, behind)) = inner.split_once(close) else {
                problem(format!("`${{` without `{close}`"));
                return out;
            };
            let name = name.trim();
            rest = behind;
            let value = match (close, name.strip_prefix("secrets.")) {
                ("}}", Some(_)) if !may => {
                    problem(
                        "a secret has no place here: only the section of the connector's own type and `with` of a module may \
                         hold one"
                            .to_owned(),
                    );
                    continue;
                }
                ("}}", Some(secret)) if !declared.iter().any(|name| name == secret) => {
                    problem(format!("the secret `{secret}` is not among `meta.secrets`: add `- name: {secret}` there"));
                    continue;
                }
                ("}}", Some(secret)) => match names.secret(secret) {
                    Some(value) if value.is_empty() => Err(format!("the secret `{secret}` is there, and empty")),
                    // A password has any characters, and none of them ends an address's part.
                    Some(value) => {
                        let put = if out.contains("://") { percent_encoded(&value) } else { value.clone() };
                        secrets.push(value);
                        Ok(put)
                    }
                    None => Err(format!(
                        "there is no secret `{secret}`: set the environment's {secret}, or put a file of that name into the secrets folder"
                    )),
                },
                ("}}", None) => Err(format!("`${{{{ {name} }}}}` is not known: only `${{{{ secrets.NAME }}}}` is")),
                (_, _) => names.variable(name).ok_or_else(|| {
                    format!("the variable {name} is not in the environment: set it, or write the value")
                }),
            };
            match value {
                Ok(value) => out.push_str(&value),
                Err(message) => problem(message),
            }
        }
        out.push_str(rest);
        out
    }
}
