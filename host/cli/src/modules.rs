//! The SmartModules that this program carries. build.rs embeds them; what they do is in smartmodules/.

use anyhow::{Result, bail};

/// A SmartModule inside the program.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// As the config's `stages` name it: `validate`, `enrich`, `ctr-window`.
    pub name: &'static str,
    /// From its SmartModule.toml.
    pub version: &'static str,
    /// The text of its SmartModule.toml.
    pub manifest: &'static str,
    /// The module itself.
    pub wasm: &'static [u8],
}

/// How many modules a whole program carries: the chain validate, enrich, ctr-window.
const WHOLE: usize = 3;

static EMBEDDED: &[Builtin] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The modules in the order of the chain; an error when the program was compiled without them.
pub fn builtin() -> Result<&'static [Builtin]> {
    if EMBEDDED.len() != WHOLE {
        bail!(
            "this program was compiled without its SmartModules ({} of {WHOLE} are in it): run `cargo xtask build`",
            EMBEDDED.len()
        );
    }
    Ok(EMBEDDED)
}

#[cfg(test)]
mod tests {
    use clickmill_engine::manifest::Manifest;

    use super::*;

    #[test]
    fn each_embedded_module_is_wasm_and_has_its_manifest() {
        for module in EMBEDDED {
            assert!(module.wasm.starts_with(b"\0asm"), "{} is no WebAssembly module", module.name);
            let manifest = Manifest::parse(module.manifest).expect("its manifest is sound");
            assert_eq!((manifest.name.as_str(), manifest.version.as_str()), (module.name, module.version));
        }
    }

    #[test]
    fn a_program_lacking_modules_says_how_to_get_them() {
        match builtin() {
            Ok(modules) => {
                let names: Vec<_> = modules.iter().map(|module| module.name).collect();
                assert_eq!(names, ["validate", "enrich", "ctr-window"]);
            }
            Err(error) => assert!(error.to_string().contains("cargo xtask build"), "{error}"),
        }
    }
}
