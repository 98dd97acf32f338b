//! What a module may hold to be compiled at all: nothing interrupts a compiler, so what would keep it busy for minutes, or
//! fill the memory, is refused before.
//!
//! The numbers are a multiple of what real modules have (ctr-window: 400 functions, 90,000 instructions, the longest function
//! 6,000). What costs most for its size within them, functions full of square roots and of empty loops, was compiled in
//! about half a minute of two cores and 300 MB.

use wasmparser::{Operator, Parser, Payload, Result};

/// Functions of the module itself; each has its own code around it.
const FUNCTIONS: u64 = 50_000;
const INSTRUCTIONS: u64 = 2_000_000;
/// The compiler holds a function whole.
const FUNCTION_INSTRUCTIONS: u64 = 65_536;
/// Each loop asks for the time, and is compiled in a time that grows with the loops of its function.
const LOOPS: u64 = 50_000;
const FUNCTION_LOOPS: u64 = 1_000;
const FUNCTION_LOCALS: u64 = 10_000;
/// Of types, imports, globals, tables and exports each.
const ENTRIES: u64 = 20_000;

/// Names the first bound that the module is over. What is not wasm is for the compiler to say.
pub(crate) fn check(wasm: &[u8]) -> Result<(), String> {
    let mut counts = Counts::default();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { return Ok(()) };
        let at_most = |what, found: u32, limit| at_most(what, u64::from(found), limit);
        match payload {
            Payload::TypeSection(types) => at_most("types", types.count(), ENTRIES)?,
            Payload::ImportSection(imports) => at_most("imports", imports.count(), ENTRIES)?,
            Payload::TableSection(tables) => at_most("tables", tables.count(), ENTRIES)?,
            Payload::GlobalSection(globals) => at_most("globals", globals.count(), ENTRIES)?,
            Payload::ExportSection(exports) => at_most("exports", exports.count(), ENTRIES)?,
            Payload::FunctionSection(functions) => at_most("functions", functions.count(), FUNCTIONS)?,
            Payload::CodeSectionEntry(body) => {
                let Ok(function) = count(&body) else { return Ok(()) };
                function.check()?;
                counts.instructions += function.instructions;
                counts.loops += function.loops;
                counts.check()?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Of the whole module.
#[derive(Default)]
struct Counts {
    instructions: u64,
    loops: u64,
}

impl Counts {
    fn check(&self) -> Result<(), String> {
        at_most("instructions", self.instructions, INSTRUCTIONS)?;
        at_most("loops", self.loops, LOOPS)
    }
}

/// Of one function.
#[derive(Default)]
struct Function {
    instructions: u64,
    loops: u64,
    locals: u64,
}

impl Function {
    fn check(&self) -> Result<(), String> {
        at_most("instructions in one function", self.instructions, FUNCTION_INSTRUCTIONS)?;
        at_most("loops in one function", self.loops, FUNCTION_LOOPS)?;
        at_most("locals in one function", self.locals, FUNCTION_LOCALS)
    }
}

fn count(body: &wasmparser::FunctionBody<'_>) -> Result<Function> {
    let mut function = Function::default();
    for locals in body.get_locals_reader()? {
        function.locals += u64::from(locals?.0);
    }
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        function.instructions += 1;
        match operators.read()? {
            Operator::Loop { .. } => function.loops += 1,
            // Its targets are in the code as well.
            Operator::BrTable { targets } => function.instructions += u64::from(targets.len()),
            _ => {}
        }
    }
    Ok(function)
}

fn at_most(what: &str, found: u64, limit: u64) -> Result<(), String> {
    if found <= limit {
        return Ok(());
    }
    Err(format!("{found} {what} are over the limit of {limit}"))
}
