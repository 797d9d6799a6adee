//! docs/BENCHMARKS.md: a page whose sections, one for each scenario, are replaced as they are
//! measured.

mod machine;
mod plot;

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Failure, Outcome};

pub(crate) use machine::{describe as machine, load, moment};
pub(crate) use plot::{Bars, Curve, Lines};

/// Where plots are, beside the page.
const PLOTS: &str = "benchmarks";

/// What was measured in one scenario.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) number: u32,
    pub(crate) title: &'static str,
    text: String,
    aims: Vec<Aim>,
    plots: Vec<(String, String)>,
}

/// What was wanted, and what came of it.
#[derive(Debug)]
struct Aim {
    wanted: String,
    measured: String,
    is_met: bool,
}

impl Section {
    pub(crate) fn new(number: u32, title: &'static str) -> Self {
        Self { number, title, text: String::new(), aims: Vec::new(), plots: Vec::new() }
    }

    /// Adds a paragraph.
    pub(crate) fn say(&mut self, text: &str) {
        self.text += text;
        self.text += "\n\n";
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        self.text += &line(head.iter().map(|&cell| cell.to_owned()).collect());
        self.text += &line(vec!["---".to_owned(); head.len()]);
        for row in rows {
            self.text += &line(row.clone());
        }
        self.text += "\n";
    }

    /// Adds a plot.
    pub(crate) fn plot(&mut self, name: &str, title: &str, svg: String) {
        let file = format!("{}-{name}.svg", self.number);
        self.say(&format!("![{title}]({PLOTS}/{file})"));
        self.plots.push((file, svg));
    }

    /// Says how an aim was met.
    pub(crate) fn aim(&mut self, wanted: &str, measured: &str, is_met: bool) {
        self.aims.push(Aim { wanted: wanted.to_owned(), measured: measured.to_owned(), is_met });
    }

    /// As it is in the page.
    pub(crate) fn markdown(&self, when: &str) -> String {
        let mut text = format!("{}\n\n", self.heading());
        if !self.aims.is_empty() {
            text += "| aim | measured | |\n| --- | --- | --- |\n";
            for Aim { wanted, measured, is_met } in &self.aims {
                let judged = if *is_met { "met" } else { "**missed**" };
                text += &[wanted, measured, judged].map(|cell| format!("| {cell} ")).concat();
                text += "|\n";
            }
            text += "\n";
        }
        text += &self.text;
        format!("{}\n\n{when}\n\n", text.trim_end())
    }

    fn heading(&self) -> String {
        format!("## {}. {}", self.number, self.title)
    }
}

/// The page.
pub(crate) struct Page {
    path: PathBuf,
}

impl Page {
    pub(crate) fn of_workspace() -> Self {
        Self { path: testkit::workspace_root().join("docs/BENCHMARKS.md") }
    }

    /// Puts a section into its place, and its plots beside the page.
    pub(crate) fn put(&self, section: &Section, when: &str) -> Outcome<()> {
        let page = fs::read_to_string(&self.path).map_err(|error| Failure::of("read", &self.path, &error))?;
        self.write(&self.path, &replaced(&page, section.number, &section.markdown(when)))?;
        let plots = self.path.with_file_name(PLOTS);
        fs::create_dir_all(&plots).map_err(|error| Failure::of("make", &plots, &error))?;
        for (file, svg) in &section.plots {
            self.write(&plots.join(file), svg)?;
        }
        Ok(())
    }

    /// Puts the description of the machine below the introduction.
    pub(crate) fn put_machine(&self, machine: &str) -> Outcome<()> {
        let page = fs::read_to_string(&self.path).map_err(|error| Failure::of("read", &self.path, &error))?;
        self.write(&self.path, &replaced(&page, 0, &format!("## 0. The machine\n\n{machine}\n\n")))
    }

    #[allow(clippy::unused_self, reason = "it is the page's own way to write")]
    fn write(&self, path: &Path, text: &str) -> Outcome<()> {
        fs::write(path, text).map_err(|error| Failure::of("write", path, &error))
    }
}

/// A page with the section of this number replaced, or put in its place among the others.
fn replaced(page: &str, number: u32, section: &str) -> String {
    let mut before = String::new();
    let mut after = String::new();
    for piece in pieces(page) {
        match number_of(piece) {
            Some(other) if other == number => {}
            Some(other) if other > number => after += piece,
            _ if after.is_empty() => before += piece,
            _ => after += piece,
        }
    }
    let page = format!("{}\n\n{section}{after}", before.trim_end());
    format!("{}\n", page.trim_end())
}

/// What stands before the first section, and the sections.
fn pieces(page: &str) -> Vec<&str> {
    let mut begins: Vec<_> = page.match_indices("\n## ").map(|(at, _)| at + 1).collect();
    begins.insert(0, 0);
    begins.push(page.len());
    begins.windows(2).map(|pair| &page[pair[0]..pair[1]]).collect()
}

fn number_of(piece: &str) -> Option<u32> {
    piece.strip_prefix("## ")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_old_one_and_leaves_the_others() {
        let page = "# T\n\nintro\n\n## 1. A\n\nold\n\n## 3. C\n\nc\n\n## Kept\n\nk\n";
        let page = replaced(page, 1, "## 1. A\n\nnew\n\n");
        assert_eq!(page, "# T\n\nintro\n\n## 1. A\n\nnew\n\n## 3. C\n\nc\n\n## Kept\n\nk\n");
        let page = replaced(&page, 2, "## 2. B\n\nb\n\n");
        assert_eq!(page, "# T\n\nintro\n\n## 1. A\n\nnew\n\n## 2. B\n\nb\n\n## 3. C\n\nc\n\n## Kept\n\nk\n");
    }
}
