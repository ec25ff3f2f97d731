//! Aligned columns of text, times and spans for people.

use jiff::Timestamp;

/// Rows of as many cells as there are columns.
#[derive(Debug)]
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

/// Between two columns.
const GAP: &str = "  ";

impl Table {
    /// A table with a header. A name that begins with `>` is of a column that is aligned to the
    /// right.
    pub fn new(header: &[&str]) -> Self {
        let names = header.iter().map(|name| name.trim_start_matches('>'));
        Self {
            right: header.iter().map(|name| name.starts_with('>')).collect(),
            rows: vec![names.map(str::to_owned).collect()],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        let cells = cells.into_iter().map(Into::into);
        self.rows
            .push(cells.map(|it: String| printable(&it)).collect());
    }

    /// The lines. Where they are wider than `width`, the last column is cut.
    pub fn lines(&self, width: Option<usize>) -> Vec<String> {
        let columns = self.right.len();
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| length(cell)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(longest).collect();
        let rows = self.rows.iter();
        rows.map(|row| {
            let cells = row.iter().zip(&widths).zip(&self.right);
            let cells = cells.map(|((cell, &width), right)| match right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            });
            let line = cells.collect::<Vec<_>>().join(GAP);
            match width {
                Some(width) => cut(line.trim_end(), width),
                None => line.trim_end().to_owned(),
            }
        })
        .collect()
    }
}

/// Characters.
pub fn length(text: &str) -> usize {
    text.chars().count()
}

/// At most `width` characters, with `…` for the rest.
pub fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Text of a file on one line, which must not steer the terminal.
pub fn printable(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(printable).collect()
}

/// `4.2 s`, `12 min`, `3.5 h`, `9 d`.
pub fn span(seconds: f64) -> String {
    let (minute, hour, day) = (60.0, 3600.0, 86_400.0);
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 99.5 * minute => format!("{:.0} min", s / minute),
        s if s < 9.95 * hour => format!("{:.1} h", s / hour),
        s if s < 48.0 * hour => format!("{:.0} h", s / hour),
        s => format!("{:.0} d", s / day),
    }
}

/// Time since then, in whole units.
pub fn age(then: Timestamp) -> String {
    match Timestamp::now().duration_since(then).as_secs_f64() {
        seconds if seconds < 10.0 => "now".into(),
        seconds => span(seconds),
    }
}

/// `91.2`, of a share; `?` for what is none.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "-".into(),
        Some(share) if (0.0..=1.0).contains(&share) => format!("{:.1}", 100.0 * share),
        Some(_) => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_is_cut() {
        let mut table = Table::new(&["name", ">n", "why"]);
        table.row(["a", "10", "because of\nthis"]);
        table.row(["long", "7", ""]);
        assert_eq!(
            table.lines(None),
            ["name   n  why", "a     10  because of this", "long   7"]
        );
        assert_eq!(table.lines(Some(16))[1], "a     10  becau…");
        assert_eq!(printable("a\x1b[31m"), "a [31m");
    }

    #[test]
    fn spans_are_short() {
        let spans = [0.0, 9.94, 9.96, 99.0, 100.0, 5969.0, 6000.0, 36_000.0, 1e6];
        let shown = spans.map(span);
        let expected = [
            "0.0 s", "9.9 s", "10 s", "99 s", "2 min", "99 min", "1.7 h", "10 h", "12 d",
        ];
        assert_eq!(shown, expected);
        assert_eq!(age(Timestamp::now()), "now");
    }
}
