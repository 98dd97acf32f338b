//! `clickmill dlq edit`: another payload in the place of the one that was rejected.

use std::io::Write;
use std::process::Command;

use anyhow::{Context as _, Result};
use clickmill_pipeline::dlq::Listed;
use clickmill_schemas::dead_letter::Origin;
use clickmill_schemas::dlq::LetterId;
use serde_json::{Map, Value};

use super::source::Source;
use crate::config::Config;
use crate::exit::mistake;
use crate::output::{print, printable};
use crate::produce::event_of_line;
use crate::smartmodule::module_file::pair;

/// Repairs the payload of a dead letter; the original is kept beside it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  clickmill dlq edit 0-1234                                in $EDITOR
  clickmill dlq edit 0-1234 --set device_type=1 --set site_id=85f751fd
  clickmill dlq edit 0-1234 --set ts=1413849600000 && clickmill dlq retry 0-1234

VALUE is JSON where it is any (1, true, null, \"1\"), else text; a field that is not there is added. A line that `produce` could
not read is edited as a CSV row of 24 columns, and becomes the event that `produce` makes of it, at the begin of its hour.")]
pub struct Args {
    /// As `clickmill dlq list` names it
    id: String,
    /// Set a field of a JSON payload
    #[arg(long, value_name = "FIELD=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

pub fn run(args: &Args, config: &Config) -> Result<()> {
    let source = Source::to_change(config)?;
    let letter = source.show(&LetterId(args.id.clone()))?.letter;
    let before = letter.edited.as_ref().unwrap_or(&letter.letter.payload);
    if before.is_cut() {
        return Err(mistake(format!(
            "only the beginning of {}'s payload is in the letter: it cannot be edited; `clickmill topic read` has the whole record",
            args.id
        )));
    }
    let before = before.bytes().unwrap_or_default();
    let after = match args.set.is_empty() {
        true => in_editor(&before)?,
        false => set(&before, &args.set)?,
    };
    if after == before {
        return print(format_args!("{}: nothing has changed\n", printable(&args.id)));
    }
    let after = event(&letter, after)?;
    source.edit(&letter.id, &after)?;
    let id = printable(&args.id);
    print(format_args!("{id}: edited, {} bytes; `clickmill dlq retry {id}` sends it\n", after.len()))
}

/// Of a line, the event that `produce` makes of it.
fn event(letter: &Listed, payload: Vec<u8>) -> Result<Vec<u8>> {
    let is_object = payload.trim_ascii_start().starts_with(b"{");
    match &letter.letter.origin {
        Origin::Line { .. } if !is_object => event_of_line(&payload).map_err(mistake),
        _ => Ok(payload),
    }
}

fn set(payload: &[u8], fields: &[(String, String)]) -> Result<Vec<u8>> {
    let bad = |e| mistake(format!("the payload is no JSON object ({e}): edit it without --set, in $EDITOR"));
    let mut object: Map<String, Value> = serde_json::from_slice(payload).map_err(bad)?;
    for (name, value) in fields {
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
        object.insert(name.clone(), value);
    }
    Ok(serde_json::to_vec(&object)?)
}

fn in_editor(payload: &[u8]) -> Result<Vec<u8>> {
    let named = |name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let none = || mistake("no editor is set: name one in EDITOR, or use --set FIELD=VALUE");
    let editor = named("VISUAL").or_else(|| named("EDITOR")).ok_or_else(none)?;
    let mut file = tempfile::Builder::new().prefix("clickmill-letter-").suffix(".json").tempfile()?;
    file.write_all(payload)?;
    // As git does: the variable may hold arguments too.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status();
    let status = status.with_context(|| format!("running {editor}"))?;
    if !status.success() {
        return Err(mistake(format!("{editor} ended with {status}: nothing has changed")));
    }
    // Many editors write a new file in the place of the old one.
    let mut text = std::fs::read(file.path())?;
    if text.ends_with(b"\n") && !payload.ends_with(b"\n") {
        text.pop();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_set_as_json_where_it_is_any_and_the_others_stay_exact() {
        let fields = [("a", "1"), ("b", "x y"), ("c", "\"1\"")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let after = set(br#"{"id":10000000000000000001,"a":"0"}"#, &fields).unwrap();
        let after: Value = serde_json::from_slice(&after).unwrap();
        assert_eq!(after, serde_json::json!({"id": 10_000_000_000_000_000_001_u64, "a": 1, "b": "x y", "c": "1"}));
        assert!(set(b"[]", &fields).is_err());
    }
}
