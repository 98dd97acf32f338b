//! Plots beside the report, as SVG.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::beside;
use super::tally::{Count, Tally};
use crate::produce::input::columns::COLUMNS;

const BLUE: RGBColor = RGBColor(0x3b, 0x6e, 0xa8);
const ORANGE: RGBColor = RGBColor(0xd9, 0x7a, 0x2b);
/// Columns whose values are compared by CTR: the dimensions of the windows.
const COMPARED: [&str; 4] = ["site_category", "app_category", "device_type", "banner_pos"];
/// Values shown of each.
const SHOWN_VALUES: usize = 8;

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws beside `out`; returns the files.
///
/// # Errors
/// Where one cannot be written.
pub fn draw(tally: &Tally, out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (hours, ctr) = (beside(out, "hours.svg"), beside(out, "ctr.svg"));
    draw_hours(tally, &hours).map_err(|e| anyhow!("{}: {e}", hours.display()))?;
    draw_ctr(tally, &ctr).map_err(|e| anyhow!("{}: {e}", ctr.display()))?;
    Ok(vec![hours, ctr])
}

fn draw_hours(tally: &Tally, file: &Path) -> Drawn {
    let hours: Vec<(String, Count)> = tally.hours().into_iter().collect();
    let area = SVGBackend::new(file, (1_000, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let (above, below) = area.split_vertically(300);
    let counts: Vec<f64> = hours.iter().map(|(_, c)| c.rows as f64).collect();
    let rates: Vec<f64> = hours.iter().map(|(_, c)| c.ctr()).collect();
    series(&above, "Rows by hour", &hours, &counts, BLUE, &|rows| format!("{rows:.0}"))?;
    series(&below, "CTR by hour", &hours, &rates, ORANGE, &|ctr| format!("{ctr:.2}"))?;
    area.present()
}

fn series(
    area: &Area<'_>,
    title: &str,
    hours: &[(String, Count)],
    values: &[f64],
    color: RGBColor,
    shown: &dyn Fn(&f64) -> String,
) -> Drawn {
    let most = values.iter().copied().fold(0.0, f64::max).max(1e-9) * 1.08;
    let last = hours.len().max(2) - 1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(70)
        .build_cartesian_2d(0..last, 0.0..most)?;
    let label = |at: &usize| hours.get(*at).map_or(String::new(), |(hour, _)| hour.clone());
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(10)
        .y_labels(6)
        .x_label_formatter(&label)
        .y_label_formatter(shown)
        .draw()?;
    let points: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
    let mut outline = points.clone();
    outline.extend([(last, 0.0), (0, 0.0)]);
    chart.draw_series(std::iter::once(Polygon::new(outline, color.mix(0.15))))?;
    chart.draw_series(LineSeries::new(points, color))?;
    Ok(())
}

fn draw_ctr(tally: &Tally, file: &Path) -> Drawn {
    let area = SVGBackend::new(file, (1_000, 640)).into_drawing_area();
    area.fill(&WHITE)?;
    for (name, panel) in COMPARED.iter().zip(area.split_evenly((2, 2))) {
        let Some(column) = COLUMNS.iter().position(|c| c == name).map(|c| &tally.columns[c]) else { continue };
        let values: Vec<(String, f64)> = column
            .by_rows()
            .iter()
            .take(SHOWN_VALUES)
            .map(|(value, count)| (String::from_utf8_lossy(value).chars().take(10).collect(), count.ctr()))
            .collect();
        bars(&panel, &format!("CTR by {name} (most common first)"), &values, tally.total.ctr())?;
    }
    area.present()
}

/// Bars, and a line at the rate of the whole.
fn bars(area: &Area<'_>, title: &str, values: &[(String, f64)], whole: f64) -> Drawn {
    let most = values.iter().map(|v| v.1).fold(whole, f64::max).max(1e-9) * 1.08;
    let end = values.len().max(1);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(28)
        .y_label_area_size(50)
        .build_cartesian_2d((0..end - 1).into_segmented(), 0.0..most)?;
    let label = |at: &SegmentValue<usize>| match at {
        SegmentValue::CenterOf(at) => values.get(*at).map_or(String::new(), |(value, _)| value.clone()),
        SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(SHOWN_VALUES)
        .y_labels(5)
        .x_label_formatter(&label)
        .y_label_formatter(&|ctr| format!("{ctr:.2}"))
        .draw()?;
    chart.draw_series(values.iter().enumerate().map(|(at, (_, ctr))| {
        let mut bar =
            Rectangle::new([(SegmentValue::Exact(at), 0.0), (SegmentValue::Exact(at + 1), *ctr)], BLUE.filled());
        bar.set_margin(0, 0, 6, 6);
        bar
    }))?;
    let line = [(SegmentValue::Exact(0), whole), (SegmentValue::Last, whole)];
    chart.draw_series(std::iter::once(PathElement::new(line, ORANGE.stroke_width(2))))?;
    Ok(())
}
