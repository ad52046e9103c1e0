//! Tables, as markdown on standard output and between the markers of a page.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Columns of a line of prose.
const WIDTH: usize = 105;

/// A table with what must be known to read it.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    /// Markdown above the table.
    pub(crate) text: String,
    /// Empty for a section that has only text.
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Section {
    fn markdown(&self, level: &str) -> String {
        let mut text = format!("{level} {}\n\n{}\n", self.title, wrapped(&self.text));
        if self.rows.is_empty() {
            return text;
        }
        text.push('\n');
        text.push_str(&table(&self.header, &self.rows));
        text
    }
}

/// The table alone.
pub(crate) fn table(header: &[&'static str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = header.iter().copied().map(str::to_owned).collect();
    let mut text = line(&names);
    text.push_str(&format!("|{}\n", "---|".repeat(header.len())));
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

/// A table without the columns in which no row has a figure.
pub(crate) fn filled(
    columns: &[&'static str],
    rows: Vec<Vec<String>>,
) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let kept = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column));
        cells.any(|cell| cell != "-")
    };
    let kept: Vec<bool> = (0..columns.len()).map(kept).collect();
    let only = |row: Vec<String>| -> Vec<String> {
        let cells = row.into_iter().zip(&kept);
        cells
            .filter(|(_, kept)| **kept)
            .map(|(cell, _)| cell)
            .collect()
    };
    let header = columns.iter().zip(&kept).filter(|(_, kept)| **kept);
    let header = header.map(|(column, _)| *column).collect();
    (header, rows.into_iter().map(only).collect())
}

/// All sections as one text, under headings of this level (`###`).
pub(crate) fn markdown(level: &str, introduction: &str, sections: &[Section]) -> String {
    let mut text = format!("{}\n", wrapped(introduction));
    for section in sections {
        let _ok = write!(text, "\n{}", section.markdown(level));
    }
    text
}

/// One paragraph in lines of the page's width.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Puts the text between the markers `NAME:begin` and `NAME:end` of a page, or at its end under a
/// heading if it has none.
pub(crate) fn write(path: &Path, name: &str, text: &str) -> Result<()> {
    let page = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    std::fs::write(path, placed(&page, name, text)).with_context(|| path.display().to_string())
}

fn placed(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}:begin -->"),
        format!("<!-- {name}:end -->"),
    );
    let block = format!("{begin}\n{}\n{end}", text.trim());
    let found = page
        .split_once(&begin)
        .and_then(|(before, rest)| rest.split_once(&end).map(|(_, after)| (before, after)));
    match found {
        Some((before, after)) => format!("{before}{block}{after}"),
        None => format!("{}\n\n### Measured\n\n{block}\n", page.trim_end()),
    }
}

#[expect(clippy::print_stdout, reason = "the output of a command")]
pub(crate) fn line(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress of a command")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let page =
            "# Page\n\n<!-- bench-quota:begin -->\nold\n<!-- bench-quota:end -->\n\n## Next\n";
        let expected =
            "# Page\n\n<!-- bench-quota:begin -->\nnew\n<!-- bench-quota:end -->\n\n## Next\n";
        assert_eq!(placed(page, "bench-quota", "new\n"), expected);
    }

    #[test]
    fn a_page_without_markers_gets_a_section_at_its_end_once() {
        let once = placed("# Page\n\nText.\n", "bench-quota", "new");
        assert_eq!(
            once,
            "# Page\n\nText.\n\n### Measured\n\n<!-- bench-quota:begin -->\nnew\n<!-- bench-quota:end -->\n"
        );
        assert_eq!(placed(&once, "bench-quota", "new"), once);
    }

    #[test]
    fn prose_is_wrapped_and_no_word_is_lost() {
        let text = "word ".repeat(100);
        let wrapped = wrapped(&text);
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH), "{wrapped}");
        assert_eq!(wrapped.split_whitespace().count(), 100);
    }

    #[test]
    fn a_section_is_a_heading_a_text_and_a_table() {
        let section = Section {
            title: "Title",
            text: "Text.".to_owned(),
            header: vec!["a", "b"],
            rows: vec![vec!["1".to_owned(), "2".to_owned()]],
        };
        assert_eq!(
            section.markdown("####"),
            "#### Title\n\nText.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
        );
    }

    #[test]
    fn a_column_without_a_figure_is_left_out() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = vec![row(["a", "-", "1"]), row(["b", "-", "-"])];
        let (header, rows) = filled(&["row", "x", "y"], rows);
        assert_eq!(header, ["row", "y"]);
        assert_eq!(rows, [["a", "1"], ["b", "-"]]);
    }
}
