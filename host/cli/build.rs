//! Embeds the SmartModules that `cargo xtask build` left in target/smartmodules/. Without them the program still
//! compiles (`cargo check` alone must work) and says at run time what to do: see src/modules.rs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The modules in the order of the chain, as target/smartmodules/ and smartmodules/ call them.
const MODULES: [&str; 3] = ["validate", "enrich", "ctr-window"];

fn main() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo sets CARGO_MANIFEST_DIR")?).join("../..");
    let built = root.join("target/smartmodules");
    // Watched as a folder: a watched file that is missing would rebuild this crate each time.
    fs::create_dir_all(&built).map_err(|error| format!("cannot create {}: {error}", built.display()))?;
    println!("cargo::rerun-if-changed={}", built.display());
    println!("cargo::rerun-if-changed=build.rs");

    versions(&root);

    let mut list = String::from("[\n");
    for name in MODULES {
        let wasm = built.join(format!("{name}.wasm"));
        let manifest = root.join("smartmodules").join(name).join("SmartModule.toml");
        println!("cargo::rerun-if-changed={}", manifest.display());
        if wasm.is_file() && manifest.is_file() {
            embed(name, &wasm, &manifest, &out, &mut list)?;
        }
    }
    list.push(']');
    write(&out.join("builtin.rs"), list.as_bytes())?;
    write(&out.join("vendor.rs"), vendor(&root)?.as_bytes())
}

/// Hands on which compiler and which wasmtime this is, where that can be told.
fn versions(root: &Path) {
    let lock = root.join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let lock = fs::read_to_string(lock).unwrap_or_default();
    let wasmtime = lock.split("name = \"wasmtime\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next());
    let rustc = env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let rustc = rustc.as_deref().and_then(|said| said.split(' ').nth(1));
    for (name, version) in [("WASMTIME", wasmtime), ("RUSTC", rustc)] {
        if let Some(version) = version {
            println!("cargo::rustc-env=CLICKMILL_{name}_VERSION={version}");
        }
    }
}

/// Lists the sources of the crates that a user's module is built on, for `smartmodule new`.
fn vendor(root: &Path) -> Result<String, String> {
    let mut list = String::from("[\n");
    for (name, folder) in [
        ("clickmill-ad-event", "smartmodules/ad-event/src"),
        ("clickmill-schemas", "schemas/src"),
        ("clickmill-sdk", "smartmodules/sdk/src"),
    ] {
        let folder = fs::canonicalize(root.join(folder)).map_err(|error| format!("{folder}: {error}"))?;
        println!("cargo::rerun-if-changed={}", folder.display());
        sources(&folder, &format!("{name}/src"), &mut list)?;
    }
    list.push(']');
    Ok(list)
}

fn sources(folder: &Path, named: &str, list: &mut String) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let named = format!("{named}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            sources(&path, &named, list)?;
        } else {
            writeln!(list, "    ({named:?}, include_str!({path:?})),").map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Copies both files beside the generated list, which then names nothing outside `OUT_DIR`.
fn embed(name: &str, wasm: &Path, manifest: &Path, out: &Path, list: &mut String) -> Result<(), String> {
    let text = String::from_utf8(read(manifest)?).map_err(|_| format!("{} is not UTF-8", manifest.display()))?;
    let version = package_version(&text)
        .ok_or_else(|| format!("{} has no line `version = \"…\"` under [package]", manifest.display()))?;
    write(&out.join(format!("{name}.wasm")), &read(wasm)?)?;
    write(&out.join(format!("{name}.toml")), text.as_bytes())?;
    writeln!(
        list,
        "    Builtin {{ name: {name:?}, version: {version:?}, manifest: include_str!(concat!(env!(\"OUT_DIR\"), \"/{name}.toml\")), wasm: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.wasm\")) }},"
    )
    .map_err(|error| error.to_string())
}

/// The version in a SmartModule.toml's table [package], which smdk writes on a line of its own.
fn package_version(manifest: &str) -> Option<&str> {
    let package = manifest.split_once("[package]")?.1;
    let package = package.split_once("\n[").map_or(package, |(package, _)| package);
    let line = package.lines().find_map(|line| line.trim().strip_prefix("version")?.trim_start().strip_prefix('='))?;
    line.trim().strip_prefix('"')?.split('"').next()
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(file, bytes).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
