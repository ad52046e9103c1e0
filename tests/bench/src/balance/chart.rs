//! The picture of docs/balancing.md: lines in panels side by side, readable on light and on dark ground.

use std::fmt::Write as _;

/// Pixels.
const PANEL: f64 = 300.0;
const PLOT: f64 = 220.0;
const LEFT: f64 = 54.0;
const TOP: f64 = 40.0;
const HEIGHT: f64 = 330.0;
/// Per cent at the top of each panel.
const MOST: f64 = 110.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#24292f}.head{font-weight:bold}.axis{stroke:#8c959f}\
    .line{fill:none;stroke-width:2}.a{stroke:#0969da}.b{stroke:#bf8700}.c{stroke:#cf222e}.d{stroke:#8250df}\
    text.a{fill:#0969da;stroke:none}text.b{fill:#9a6700;stroke:none}text.c{fill:#cf222e;stroke:none}\
    text.d{fill:#8250df;stroke:none}@media(prefers-color-scheme:dark){text{fill:#e6edf3}\
    text.a{fill:#58a6ff}text.b{fill:#d29922}text.c{fill:#ff7b72}text.d{fill:#bc8cff}\
    .a{stroke:#58a6ff}.b{stroke:#d29922}.c{stroke:#ff7b72}.d{stroke:#bc8cff}}";

/// A line, by points in per cent.
pub(super) struct Line {
    pub(super) name: &'static str,
    /// Of the style: `a` to `d`.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) across: &'static str,
    /// The last value across.
    pub(super) end: f64,
    pub(super) lines: Vec<Line>,
}

pub(super) fn svg(panels: &[Panel]) -> String {
    let mut body = String::new();
    let mut left = LEFT;
    for panel in panels {
        draw(&mut body, panel, left);
        left += PANEL;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {left:.0} {HEIGHT:.0}\" width=\"{left:.0}\" \
         height=\"{HEIGHT:.0}\" role=\"img\">\n<title>The balancer in simulated time</title>\n\
         <style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, panel: &Panel, left: f64) {
    let bottom = TOP + PLOT;
    let across = |x: f64| left + x / panel.end * PLOT;
    let up = |y: f64| bottom - y / MOST * PLOT;
    let Panel { title, .. } = panel;
    let _ok = writeln!(
        body,
        r#"<text class="head" x="{left:.0}" y="20">{title}</text>"#
    );
    for percent in [0.0, 50.0, 100.0] {
        let (y, end) = (up(percent), left + PLOT);
        let _ok = writeln!(
            body,
            r#"<line class="axis" x1="{left:.0}" y1="{y:.1}" x2="{end:.0}" y2="{y:.1}"/><text x="{:.0}" y="{:.1}" text-anchor="end">{percent:.0} %</text>"#,
            left - 6.0,
            y + 4.0
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let (value, x) = (panel.end * part, left + PLOT * part);
        let _ok = writeln!(
            body,
            r#"<text x="{x:.0}" y="{:.0}" text-anchor="middle">{value:.0}</text>"#,
            bottom + 16.0
        );
    }
    let _ok = writeln!(
        body,
        r#"<text x="{:.0}" y="{:.0}" text-anchor="middle">{}</text>"#,
        left + PLOT / 2.0,
        bottom + 32.0,
        panel.across
    );
    let mut names = left;
    for line in &panel.lines {
        let points = line.points.iter();
        let points = points.map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y)));
        let points = points.collect::<Vec<_>>().join(" ");
        let (class, name) = (line.class, line.name);
        let _ok = writeln!(
            body,
            r#"<polyline class="line {class}" points="{points}"/><text class="{class}" x="{names:.0}" y="{:.0}">{name}</text>"#,
            bottom + 56.0
        );
        // Letters are some 6 pixels wide.
        names += 16.0 + 6.0 * f64::from(u32::try_from(name.len()).unwrap_or(0));
    }
}
