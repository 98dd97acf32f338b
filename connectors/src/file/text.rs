//! `${NAME}` and `${{ secrets.NAME }}` in the texts of a file: what stands for them, and what does not.

use super::field::Problem;
use super::node::{Node, Place, Value};

/// Where names are looked up.
pub trait Names {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// A secret that the file names.
    fn secret(&self, name: &str) -> Option<String>;
}

/// Puts values in the place of names in all texts below `node`. `declared` are the secrets that the file says it uses.
pub fn substitute(node: &mut Node, declared: &[String], names: &dyn Names, problems: &mut Vec<Problem>) {
    match &mut node.value {
        Value::Text(text) => *text = replaced(text, node.at, declared, names, problems),
        Value::List(nodes) => nodes.iter_mut().for_each(|node| substitute(node, declared, names, problems)),
        Value::Map(entries) => {
            entries.iter_mut().for_each(|entry| substitute(&mut entry.node, declared, names, problems));
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {}
    }
}

fn replaced(text: &str, at: Place, declared: &[String], names: &dyn Names, problems: &mut Vec<Problem>) -> String {
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
            ("}}", Some(secret)) if !declared.iter().any(|name| name == secret) => {
                problem(format!("the secret `{secret}` is not among `meta.secrets`: add `- name: {secret}` there"));
                continue;
            }
            ("}}", Some(secret)) => names.secret(secret).ok_or_else(|| {
                format!("there is no secret `{secret}`: set the environment's {secret}, or put a file of that name into the secrets folder")
            }),
            ("}}", None) => Err(format!("`${{{{ {name} }}}}` is not known: only `${{{{ secrets.NAME }}}}` is")),
            (_, _) => names
                .variable(name)
                .ok_or_else(|| format!("the variable {name} is not in the environment: set it, or write the value")),
        };
        match value {
            Ok(value) => out.push_str(&value),
            Err(message) => problem(message),
        }
    }
    out.push_str(rest);
    out
}
