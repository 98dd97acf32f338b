//! The documents: each command of clickmill in them is one that the program has, each link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::{repository, text};

const DOCUMENTS: [&str; 3] = ["docs/DEPLOYMENT.md", "docs/OPERATIONS.md", "docs/TROUBLESHOOTING.md"];

/// Commands of clickmill in code: lines of blocks, and spans.
fn commands(document: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (n, part) in document.split("```").enumerate() {
        let code: Vec<&str> = match n % 2 {
            1 => part.lines().collect(),
            _ => part.split('`').skip(1).step_by(2).collect(),
        };
        for line in code {
            let line = line.split(" # ").next().unwrap().trim().trim_start_matches("$ ");
            let line = line.trim_start_matches("docker compose exec clickmill ");
            if let Some(command) = line.strip_prefix("clickmill ") {
                found.insert(command.trim().to_owned());
            }
        }
    }
    found
}

/// What `--help` of the verbs that begin a command prints, and how many there are.
fn help(words: &[&str], known: &mut BTreeMap<String, Option<String>>) -> Option<String> {
    let key = words.join(" ");
    let ask = || {
        let done = Command::new(env!("CARGO_BIN_EXE_clickmill")).args(words).arg("--help").output().unwrap();
        done.status.success().then(|| String::from_utf8(done.stdout).unwrap())
    };
    known.entry(key).or_insert_with(ask).clone()
}

fn is_verb(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
}

#[test]
fn every_command_in_the_documents_is_one_that_the_program_has() {
    let mut known = BTreeMap::new();
    let mut checked = 0;
    for document in DOCUMENTS {
        for command in commands(&text(document)) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let Some(first) = words.first().filter(|word| is_verb(word)) else { continue };
            let top = help(&[first], &mut known).unwrap_or_else(|| panic!("{document}: clickmill {command}"));
            let verbs_below = top.contains("\nCommands:\n");
            let page = match words.get(1) {
                Some(second) if verbs_below && is_verb(second) => {
                    help(&[first, second], &mut known).unwrap_or_else(|| panic!("{document}: clickmill {command}"))
                }
                _ => top,
            };
            for flag in words.iter().filter(|word| word.starts_with("--")) {
                let name = flag.split('=').next().unwrap();
                let has = page.split_whitespace().any(|word| word.trim_matches([',', '<', '>', '|']).starts_with(name));
                assert!(has, "{document}: clickmill {command}: there is no {name}");
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} commands were found");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for document in DOCUMENTS {
        let here = repository(document);
        let content = text(document);
        for link in content.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { here.clone() } else { here.parent().unwrap().join(path) };
            assert!(target.exists(), "{document}: {link}");
            if !anchor.is_empty() {
                let headings = std::fs::read_to_string(&target).unwrap();
                let mut anchors = headings
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .map(|line| line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-"));
                assert!(anchors.any(|known| known == anchor), "{document}: {link}");
            }
        }
    }
}

#[test]
fn each_document_has_a_picture_and_names_files_that_are_here() {
    for document in DOCUMENTS {
        let content = text(document);
        assert!(content.contains("```mermaid"), "{document}");
        for path in content.split(|c: char| c.is_whitespace() || "()`".contains(c)) {
            let whole = ["docs/", "monitoring/", "connectors/"].iter().any(|folder| path.starts_with(folder));
            if whole && !path.contains('*') && !path.ends_with('/') {
                let path = path.split('#').next().unwrap();
                assert!(repository(path).exists(), "{document} names {path}");
            }
        }
    }
}
