//! `clickmill smartmodule new`: a project with the crates that it is built on in it, since no registry has them.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::exit::mistake;
use crate::output::print;

/// Makes a project that builds and passes its own tests
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill smartmodule new no-popups --kind filter
  clickmill smartmodule new stricter --kind validate --path modules/stricter
  cd no-popups && clickmill smartmodule build && clickmill smartmodule test

The project has the sources of Clickmill's SDK in vendor/: they are in no registry yet.")]
pub struct Args {
    /// Name of the project and its stage: small letters, digits and `-`
    name: String,
    /// What it does with a record
    #[arg(long, value_enum)]
    kind: Kind,
    /// Folder of the project, new or empty [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Rejects ad events that break a rule
    Validate,
    /// Appends what follows from an event
    Enrich,
    /// Counts events in windows
    Window,
    /// Hands on some records and drops others
    Filter,
    /// Makes one record of each
    Map,
}

struct Template {
    name: &'static str,
    description: &'static str,
    /// Where a new stage of this kind goes, as flags; none where it takes a stage's place.
    place: &'static str,
    params: &'static str,
    source: &'static str,
    cases: &'static str,
}

macro_rules! template {
    ($name:literal, $description:literal, $place:literal) => {
        Template {
            name: $name,
            description: $description,
            place: $place,
            params: include_str!(concat!("templates/", $name, ".toml")),
            source: include_str!(concat!("templates/", $name, ".rs")),
            cases: include_str!(concat!("templates/", $name, ".jsonl")),
        }
    };
}

const VALIDATE: Template =
    template!("validate", "Rejects ad events whose banner stands where none should.", "--after validate ");
const ENRICH: Template = template!("enrich", "Appends to ad events what each click costs.", "--stage enrich ");
const WINDOW: Template =
    template!("window", "Counts impressions and clicks in windows of one minute.", "--stage ctr-window --reset-state ");
const FILTER: Template =
    template!("filter", "Hands on ad events that were clicked, and drops the others.", "--after validate ");
const MAP: Template = template!("map", "Takes the white space around a value away.", "--before validate ");

impl Kind {
    const fn template(self) -> &'static Template {
        match self {
            Self::Validate => &VALIDATE,
            Self::Enrich => &ENRICH,
            Self::Window => &WINDOW,
            Self::Filter => &FILTER,
            Self::Map => &MAP,
        }
    }
}

/// Sources of the crates in `vendor/`, path and text; build.rs lists them.
static SOURCES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/vendor.rs"));
/// Their manifests: as in the repository, without what only its workspace needs.
const MANIFESTS: [(&str, &str); 3] = [
    ("clickmill-ad-event/Cargo.toml", include_str!("templates/vendor-ad-event.toml")),
    ("clickmill-schemas/Cargo.toml", include_str!("templates/vendor-schemas.toml")),
    ("clickmill-sdk/Cargo.toml", include_str!("templates/vendor-sdk.toml")),
];

pub fn run(args: &Args) -> Result<()> {
    check_name(&args.name)?;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    check_folder(&folder)?;
    let template = args.kind.template();
    for (path, text) in files(&args.name, template) {
        write(&folder.join(path), &text)?;
    }
    print(format_args!(
        "{}: a module of kind {}; now\n  cd {0}\n  clickmill smartmodule build && clickmill smartmodule test\n",
        folder.display(),
        template.name
    ))
}

/// Names that cargo takes for a package, and that a library's file can have.
fn check_name(name: &str) -> Result<()> {
    const TAKEN: [&str; 9] = ["test", "core", "std", "alloc", "proc-macro", "build", "deps", "examples", "incremental"];
    const KEYWORDS: [&str; 37] = [
        "as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false", "fn",
        "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self",
        "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while",
    ];
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || name.len() > 64 || !name.chars().all(sound) {
        return Err(mistake(format!(
            "{name:?} cannot be a module's name: small letters, digits and `-`, a letter first, 64 at most"
        )));
    }
    let vendored = MANIFESTS.iter().any(|(path, _)| path.split('/').next() == Some(name));
    if TAKEN.contains(&name) || KEYWORDS.contains(&name) || vendored {
        return Err(mistake(format!("{name:?} cannot be a module's name: Rust or cargo has it for something else")));
    }
    Ok(())
}

/// Nothing of a user's is written over.
fn check_folder(folder: &Path) -> Result<()> {
    match fs::read_dir(folder).map(Iterator::count) {
        Ok(0) => Ok(()),
        Ok(_) => Err(mistake(format!("{} is there already, and not empty", folder.display()))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(mistake(format!("{}: {e}", folder.display()))),
    }
}

/// Paths in the project, and their texts.
fn files(name: &str, template: &Template) -> Vec<(PathBuf, String)> {
    let filled = |text: &str| {
        let text = text.replace("{name}", name).replace("{description}", template.description);
        text.replace("{place}", template.place)
    };
    let state = if template.name == "window" { "state_version = 1\n" } else { "" };
    let manifest = format!(
        "[package]\nname = \"{name}\"\ngroup = \"local\"\nversion = \"0.1.0\"\napiVersion = \"0.1.0\"\ndescription = {:?}\n\
         {}\n[clickmill]\nkind = \"{}\"\n{state}",
        template.description, template.params, template.name
    );
    let own = [
        ("Cargo.toml", filled(include_str!("templates/project.toml"))),
        ("SmartModule.toml", manifest),
        ("README.md", filled(include_str!("templates/readme.md"))),
        (".gitignore", include_str!("templates/gitignore").to_owned()),
        ("src/lib.rs", template.source.to_owned()),
        ("cases/basic.jsonl", template.cases.to_owned()),
    ];
    let own = own.into_iter().map(|(path, text)| (PathBuf::from(path), text));
    let vendored = MANIFESTS.iter().chain(SOURCES);
    own.chain(vendored.map(|(path, text)| (Path::new("vendor").join(path), (*text).to_owned()))).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    let shown = || path.display().to_string();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(shown)?;
    }
    fs::write(path, text).with_context(shown)
}

#[cfg(test)]
mod tests {
    use clickmill_engine::manifest::Manifest;

    use super::*;

    #[test]
    fn names_that_cargo_or_a_stage_cannot_have_are_refused() {
        ["mask-devices", "a", "v2"].iter().for_each(|name| check_name(name).unwrap());
        for name in ["", "Mask", "2d", "a_b", "a/b", "../a", "fn", "test", "clickmill-sdk", "ä", &"a".repeat(65)] {
            assert_eq!(crate::exit::code_of(&check_name(name).unwrap_err()), 2, "{name}");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        check_folder(dir.path()).unwrap();
        check_folder(&dir.path().join("new")).unwrap();
        fs::write(dir.path().join("mine"), "").unwrap();
        assert!(check_folder(dir.path()).unwrap_err().to_string().contains("not empty"));
        assert!(check_folder(&dir.path().join("mine")).is_err());
    }

    #[test]
    fn every_kind_has_a_manifest_that_reads() {
        for kind in [Kind::Validate, Kind::Enrich, Kind::Window, Kind::Filter, Kind::Map] {
            let files = files("mine", kind.template());
            let (_, text) = files.iter().find(|(path, _)| path.ends_with("SmartModule.toml")).unwrap();
            let manifest = Manifest::parse(text).unwrap();
            assert_eq!((manifest.name.as_str(), manifest.kind.as_deref()), ("mine", Some(kind.template().name)));
            assert!(files.iter().any(|(path, _)| path.ends_with("vendor/clickmill-sdk/src/export.rs")));
        }
    }
}
