//! Authorities whose certificates would never be asked for: a file that names them, and an address that goes without TLS.

use super::fields::{CA_FILE, Type};
use super::node::{Node, Value};
use super::{Problem, get};
use crate::{postgres, redis};

/// What is wrong between the address and the authorities of a file, into `problems`.
pub fn check(file: &Node, problems: &mut Vec<Problem>) {
    let kinds: [(Type, fn(&str) -> bool, &str); 2] = [
        (Type::PostgresSink, postgres::goes_without_tls, postgres::WITHOUT_TLS),
        (Type::RedisSink, redis::goes_without_tls, redis::WITHOUT_TLS),
    ];
    for (kind, goes_without_tls, why) in kinds {
        let section = kind.section();
        let Some(section_node) = get(file, section) else { continue };
        let (Some(Node { at, value: Value::Text(url) }), Some(_)) =
            (get(section_node, "url"), get(section_node, CA_FILE))
        else {
            continue;
        };
        if goes_without_tls(url) {
            problems.push(Problem { at: *at, message: format!("`{section}.url`: {why}") });
        }
    }
}
