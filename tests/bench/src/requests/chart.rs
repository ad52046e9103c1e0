//! The ratios as an SVG: horizontal bars in groups, readable on light and on dark ground.

use std::fmt::Write as _;

use crate::figures::Spread;

/// The bars of one workload.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) ratio: Spread,
    pub(super) ours: bool,
}

/// Pixels: the picture, the names on the left, the figures on the right, a bar and a heading.
const WIDTH: f64 = 760.0;
const NAMES: f64 = 250.0;
const FIGURES: f64 = 130.0;
const ROW: f64 = 18.0;
const HEADING: f64 = 30.0;

const STYLE: &str = "text{font:12px sans-serif;fill:#24292f}.head{font-weight:bold}.ours{fill:#0969da}\
    .other{fill:#8c959f}.line{stroke:#24292f;stroke-width:1}.one{stroke:#8c959f;stroke-dasharray:3 3}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.ours{fill:#58a6ff}.other{fill:#6e7681}\
    .line{stroke:#e6edf3}.one{stroke:#6e7681}}";

/// The picture. Bars are CPU ratios; the thin line spans the rounds, the dashed one is the reference.
pub(super) fn svg(groups: &[Group]) -> String {
    let bars = groups.iter().flat_map(|group| &group.bars);
    let most = bars.map(|bar| bar.ratio.most).fold(1.0, f64::max);
    let scale = (WIDTH - NAMES - FIGURES) / most;
    let mut body = String::new();
    let mut top = 0.0;
    for group in groups {
        top += HEADING;
        let title = escaped(&group.title);
        let _ok = writeln!(
            body,
            r#"<text class="head" x="4" y="{:.0}">{title}</text>"#,
            top - 8.0
        );
        let first = top;
        for bar in &group.bars {
            draw(&mut body, bar, top, scale);
            top += ROW;
        }
        let one = NAMES + scale;
        let _ok = writeln!(
            body,
            r#"<line class="one" x1="{one:.1}" y1="{first:.0}" x2="{one:.1}" y2="{top:.0}"/>"#
        );
    }
    let height = top + 8.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
         width=\"{WIDTH:.0}\" height=\"{height:.0}\" role=\"img\">\n\
         <title>CPU of proxies as ratios</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
    )
}

fn draw(body: &mut String, bar: &Bar, top: f64, scale: f64) {
    let class = if bar.ours { "ours" } else { "other" };
    let Spread {
        median,
        least,
        most,
    } = bar.ratio;
    let (text, middle) = (top + 13.0, top + ROW / 2.0);
    let end = |ratio: f64| NAMES + ratio * scale;
    let _ok = writeln!(
        body,
        "<text x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{NAMES:.0}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\"/>\
         <line class=\"line\" x1=\"{:.1}\" y1=\"{middle:.0}\" x2=\"{:.1}\" y2=\"{middle:.0}\"/>\
         <text x=\"{:.1}\" y=\"{text:.0}\">{median:.2}</text>",
        NAMES - 8.0,
        escaped(&bar.name),
        top + 2.0,
        median * scale,
        ROW - 4.0,
        end(least),
        end(most),
        end(most) + 6.0,
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(name: &str, median: f64, ours: bool) -> Bar {
        let ratio = Spread {
            median,
            least: median - 0.1,
            most: median + 0.1,
        };
        Bar {
            name: name.to_owned(),
            ratio,
            ours,
        }
    }

    #[test]
    fn a_bar_is_as_long_as_its_ratio_and_text_is_escaped() {
        let group = Group {
            title: "a & b".to_owned(),
            bars: vec![bar("bare", 1.0, false), bar("<ours>", 1.9, true)],
        };
        let svg = svg(&[group]);
        // The most of all, 2.0, fills the 380 pixels between names and figures.
        assert!(
            svg.contains(r#"class="other" x="250" y="32" width="190.0""#),
            "{svg}"
        );
        assert!(
            svg.contains(r#"class="ours" x="250" y="50" width="361.0""#),
            "{svg}"
        );
        assert!(
            svg.contains("a &amp; b") && svg.contains("&lt;ours&gt;"),
            "{svg}"
        );
        assert!(
            svg.contains(r#"x1="440.0" y1="30" x2="440.0" y2="66""#),
            "{svg}"
        );
    }
}
