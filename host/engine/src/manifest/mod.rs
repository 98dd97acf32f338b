//! SmartModule.toml: what a module says about itself, for people and for the check of its parameters.
//!
//! As Fluvio's tools write it; keys that are not known here are theirs. A table `[clickmill]` has what they lack. Nothing in
//! it is believed about what the module does: its exports and its own `init` have the last word.

mod params;

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

pub use params::ParamProblem;

/// Longest text that is read.
pub const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// Longest name, group and version.
const MAX_NAME_BYTES: usize = 64;
const MAX_PARAMS: usize = 256;

/// What a SmartModule.toml says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    pub group: Option<String>,
    pub version: String,
    /// Of `[clickmill]`: validate, enrich, window, filter, map, or what its author calls it.
    pub kind: Option<String>,
    pub description: Option<String>,
    /// Empty where it says nothing of parameters.
    pub params: Vec<ParamSpec>,
    /// Of `[clickmill]`: the version of the state that it writes.
    pub state_version: Option<i32>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamSpec {
    pub name: String,
    /// How the text is read, in words. Values are checked where it begins with `integer`, `number`, `bool` or `date`; an
    /// integer may have a range, `integer, 0 to 10`.
    pub kind: Option<String>,
    pub default: Option<String>,
    pub optional: bool,
    pub description: Option<String>,
}

/// A text that is no SmartModule.toml.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Line and column, from 1; `None` where it is the text as a whole.
    pub place: Option<(usize, usize)>,
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for ManifestError {}

impl Manifest {
    /// Reads a SmartModule.toml.
    ///
    /// # Errors
    /// Where the text is no TOML, lacks a name or a version, or has one that cannot be shown.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let whole = |message| ManifestError { place: None, message };
        if text.len() > MAX_MANIFEST_BYTES {
            return Err(whole(format!("{} bytes are over the limit of {MAX_MANIFEST_BYTES}", text.len())));
        }
        let file: File = toml::from_str(text).map_err(|error| ManifestError {
            place: error.span().map(|span| place(text, span.start)),
            message: one_line(error.message()),
        })?;
        let File { package, params: Params(params), clickmill } = file;
        for (key, value) in
            [("name", Some(&package.name)), ("group", package.group.as_ref()), ("version", Some(&package.version))]
        {
            let sound =
                |text: &String| !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.contains(char::is_control);
            if value.is_some_and(|value| !sound(value)) {
                return Err(whole(format!("package.{key} must have 1 to {MAX_NAME_BYTES} printable bytes")));
            }
        }
        if params.len() > MAX_PARAMS {
            return Err(whole(format!("{} params are over the limit of {MAX_PARAMS}", params.len())));
        }
        if let Some(twice) = params.iter().enumerate().find_map(|(i, p)| params[..i].iter().find(|q| q.name == p.name))
        {
            return Err(whole(format!("the parameter {:?} is there twice", twice.name)));
        }
        let Package { name, group, version, description } = package;
        let Clickmill { kind, state_version } = clickmill;
        Ok(Self { name, group, version, kind, description, params, state_version })
    }
}

#[derive(Deserialize)]
struct File {
    package: Package,
    #[serde(default)]
    params: Params,
    #[serde(default)]
    clickmill: Clickmill,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    group: Option<String>,
    version: String,
    description: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clickmill {
    kind: Option<String>,
    state_version: Option<i32>,
}

/// What stands about a parameter, beside its name.
#[derive(Deserialize)]
struct Param {
    name: Option<String>,
    #[serde(rename = "type", alias = "input")]
    kind: Option<String>,
    default: Option<String>,
    #[serde(default)]
    optional: bool,
    description: Option<String>,
}

/// `[[params]]` with names in them, or `[params.NAME]`.
#[derive(Default)]
struct Params(Vec<ParamSpec>);

impl<'de> Deserialize<'de> for Params {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamsVisitor)
    }
}

struct ParamsVisitor;

impl<'de> Visitor<'de> for ParamsVisitor {
    type Value = Params;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables [[params]], each with a name")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Params, A::Error> {
        let mut params = Vec::new();
        while let Some(param) = seq.next_element::<Param>()? {
            let name = param.name.clone().ok_or_else(|| serde::de::Error::missing_field("name"))?;
            params.push(param.named(name));
        }
        Ok(Params(params))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params, A::Error> {
        let mut params = Vec::new();
        while let Some((name, param)) = map.next_entry::<String, Param>()? {
            params.push(param.named(name));
        }
        Ok(Params(params))
    }
}

impl Param {
    fn named(self, name: String) -> ParamSpec {
        let Self { kind, default, optional, description, .. } = self;
        ParamSpec { name, kind, default, optional, description }
    }
}

/// Line and column of a byte, from 1; columns are characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Manifest::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_fluvios_tools_write_is_read_and_their_own_keys_are_passed_over() {
        let manifest = Manifest::parse(
            "[package]\nname = \"jolt\"\ngroup = \"infinyon\"\nversion = \"0.1.0\"\napiVersion = \"0.1.0\"\nfluvioVersion = \"0\"\n\
             visibility = \"public\"\n[[params]]\nname = \"spec\"\ninput = \"string\"\n[init.x]\ny = 1\n[clickmill]\nkind = \"map\"\n",
        );
        let spec = ParamSpec {
            name: "spec".into(),
            kind: Some("string".into()),
            default: None,
            optional: false,
            description: None,
        };
        let expected = Manifest {
            name: "jolt".into(),
            group: Some("infinyon".into()),
            version: "0.1.0".into(),
            kind: Some("map".into()),
            description: None,
            params: vec![spec],
            state_version: None,
        };
        assert_eq!(manifest, Ok(expected));
        let named =
            Manifest::parse("[package]\nname = \"a\"\nversion = \"1\"\n[params.spec]\noptional = true").unwrap();
        assert_eq!((named.params[0].name.as_str(), named.params[0].optional), ("spec", true));
    }

    #[test]
    fn the_manifests_of_our_own_modules_are_read() {
        for (text, name, kind, params) in [
            (include_str!("../../../../smartmodules/validate/SmartModule.toml"), "validate", "validate", 3),
            (include_str!("../../../../smartmodules/enrich/SmartModule.toml"), "enrich", "enrich", 1),
            (include_str!("../../../../smartmodules/ctr-window/SmartModule.toml"), "ctr-window", "window", 10),
        ] {
            let manifest = Manifest::parse(text).unwrap();
            assert_eq!((manifest.name.as_str(), manifest.kind.as_deref()), (name, Some(kind)));
            assert_eq!(manifest.params.len(), params);
            assert_eq!(manifest.state_version.is_some(), kind == "window");
        }
    }

    #[test]
    fn errors_name_line_and_column() {
        assert!(
            error("[package]\nname = \"ü\" x\n").starts_with("line 2, column 12: "),
            "{}",
            error("[package]\nname = \"ü\" x\n")
        );
        assert!(error("[package]\nname = \"a\"").contains("missing field `version`"));
        let typed = error("[package]\nname = \"a\"\nversion = 1");
        assert!(typed.starts_with("line 3, column 11: invalid type: integer `1`"), "{typed}");
        let package = "[package]\nname = \"a\"\nversion = \"1\"\n";
        let unnamed = error(&format!("{package}[[params]]\noptional = true"));
        assert!(unnamed.contains("line 4, column 1: missing field `name`"), "{unnamed}");
        assert!(error(&format!("params = 3\n{package}")).contains("expected tables [[params]]"));
        assert!(error(&format!("{package}[clickmill]\nkinds = \"map\"")).contains("unknown field `kinds`"));
        assert!(error("").contains("missing field `package`"));
    }

    #[test]
    fn what_cannot_be_shown_or_is_too_much_is_refused() {
        let named = |name: &str| Manifest::parse(&format!("[package]\nname = \"{name}\"\nversion = \"1\"\n"));
        for name in ["", "a\\u001bb", &"x".repeat(65)] {
            assert!(named(name).unwrap_err().message.starts_with("package.name must have 1 to 64"), "{name:?}");
        }
        assert!(error(&"#".repeat(MAX_MANIFEST_BYTES + 1)).contains("262145 bytes are over the limit"));
        let package = "[package]\nname = \"a\"\nversion = \"1\"\n";
        let twice = format!("{package}{}", "[[params]]\nname = \"p\"\n".repeat(2));
        assert_eq!(error(&twice), "the parameter \"p\" is there twice");
        let many: String = (0..300).map(|i| format!("[[params]]\nname = \"p{i}\"\n")).collect();
        assert!(error(&format!("{package}{many}")).contains("300 params are over the limit of 256"));
        // Deep nesting is an error too, and no end of the stack.
        error(&format!("a = {}", "[".repeat(100_000)));
        error(&format!("{}.a = 1", vec!["a"; 30_000].join(".")));
    }
}
