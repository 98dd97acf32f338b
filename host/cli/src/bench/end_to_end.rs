//! A filled topic to durable rows in PostgreSQL, on all cores, against the reference on one.

use std::time::Instant;

use anyhow::{Result, ensure};
use clickmill_connectors::Servers;

use super::{Bench, Goal, ROUNDS, Report, chain, events, forget, median, timed};
use crate::stack::{self, Stack};

/// Avazu's own density: 40,428,967 rows in 240 hours. Fewer rows in as many windows would measure the windows.
const ROWS_PER_HOUR: u64 = 168_454;
/// Longer than the others: start and stop must not be what is measured.
const TIMES_ROWS: u64 = 4;

pub fn measure(bench: &Bench, rows: u64, report: &mut Report) -> Result<()> {
    let lines = events::produced(bench, rows.min(400_000), 24)?;
    let rows = rows * TIMES_ROWS;
    let hours = u16::try_from(rows.div_ceil(ROWS_PER_HOUR).clamp(1, 240))?;
    let file = bench.rows(rows, hours)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let (mut native, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        native.push(timed(|| chain::reference(&lines))?.0);
        let config = bench.config(&format!("end-to-end-{round}"));
        events::fill(&config, &file)?;
        // The modules are compiled and the server is up before the clock starts, as at every start but the first.
        stack::compile(&config)?;
        runtime.block_on(Servers::new(&config.data_dir).postgres())?;
        let (took, events) = runtime.block_on(async {
            let begun = Instant::now();
            let stack = Stack::start(&config).await?;
            let drained = stack.until_end().await;
            let took = begun.elapsed();
            stack.stop(tokio::time::Instant::now()).await?;
            anyhow::Ok((took, drained?.events))
        })?;
        ensure!(events == rows, "{events} of {rows} events were processed");
        ours.push(took);
        forget(&config.data_dir)?;
    }
    let native = lines.len() as f64 / median(native);
    let ours = rows as f64 / median(ours);
    report.add("end to end: reference, one core", native, "events/s", Goal::None);
    report.add("end to end: topic to PostgreSQL, all cores", ours, "events/s", Goal::None);
    report.add("end to end: against the reference", ours / native, "×", Goal::AtLeast(3.0));
    Ok(())
}
