//! SmartModule.toml: what reads can be shown and checks parameters; what does not is told on a line, with its place.

use std::collections::BTreeMap;

use clickmill_engine::manifest::Manifest;

/// Bytes as a SmartModule.toml.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let manifest = match Manifest::parse(text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let lines = text.matches('\n').count() + 1;
            assert!(error.place.is_none_or(|(line, column)| (1..=lines).contains(&line) && column >= 1), "{error:?}");
            assert!(!error.message.contains('\n'), "{error:?}");
            return;
        }
    };
    assert!(!manifest.name.is_empty() && !manifest.name.contains(char::is_control), "{manifest:?}");
    assert_eq!(Manifest::parse(text).as_ref(), Ok(&manifest));
    let required = manifest.params.iter().filter(|spec| !spec.optional && spec.default.is_none());
    let problems = manifest.check_params(&BTreeMap::new()).err().map_or(0, |problems| problems.len());
    assert_eq!(problems, required.count(), "without parameters, those that are required are missing");
    let mut given: BTreeMap<String, String> =
        manifest.params.iter().map(|spec| (spec.name.clone(), "x".into())).collect();
    given.insert("no such parameter".into(), String::new());
    for problem in manifest.check_params(&given).err().unwrap_or_default() {
        assert!(!problem.to_string().is_empty());
    }
}
