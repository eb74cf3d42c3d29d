//! Text in columns, with shades that count for no width.

use super::view::Style;
use crate::telemetry::foreign::harmless;

/// How a piece of text is to look. Colour is never the only sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shade {
    Normal,
    Bold,
    Quiet,
    Good,
    Warn,
    Bad,
}

impl Shade {
    const fn code(self) -> &'static str {
        match self {
            Self::Normal => "",
            Self::Bold => "\u{1b}[1m",
            Self::Quiet => "\u{1b}[2m",
            Self::Good => "\u{1b}[32m",
            Self::Warn => "\u{1b}[33m",
            Self::Bad => "\u{1b}[1;31m",
        }
    }
}

/// One line, made of pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Vec<(Shade, String)>);

impl Line {
    pub(super) fn of(shade: Shade, text: impl Into<String>) -> Self {
        Self::default().and(shade, text)
    }

    pub(super) fn and(mut self, shade: Shade, text: impl Into<String>) -> Self {
        // Reasons and names may have come over the network.
        self.0.push((shade, harmless(&text.into())));
        self
    }

    /// Filled with spaces to so many columns.
    pub(super) fn to(self, column: usize) -> Self {
        let spaces = column.saturating_sub(self.width());
        self.and(Shade::Normal, " ".repeat(spaces))
    }

    pub(super) fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The text, cut to so many columns, and without spaces at its end.
    pub(super) fn text(&self, width: usize, style: Style) -> String {
        let mut text = String::new();
        let mut left = width;
        let last = self.0.iter().rposition(|(_, part)| !part.trim().is_empty());
        let pieces = self.0.iter().take(last.map_or(0, |last| last + 1));
        for (index, (shade, part)) in pieces.enumerate() {
            let part = if Some(index) == last {
                part.trim_end()
            } else {
                part
            };
            let mut shown: String = part.chars().take(left).collect();
            if shown.len() < part.len() && shown.pop().is_some() {
                shown.push('…');
            }
            left -= shown.chars().count();
            let code = match style {
                Style::Colour => shade.code(),
                Style::Plain => "",
            };
            if code.is_empty() || shown.is_empty() {
                text += &shown;
            } else {
                text += code;
                text += &shown;
                text += "\u{1b}[0m";
            }
        }
        text
    }
}

/// A cell: its shade and text.
pub(super) type Cell = (Shade, String);

/// One column: its head, and whether it stands at the right.
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) right: bool,
    /// The less important go first where there is no room; 0 stays.
    pub(super) order: u8,
}

/// Lays rows out under their heads, as many columns as fit. A row without cells is another line between.
pub(super) fn lay_out(columns: &[Column], rows: &[Vec<Cell>], width: usize) -> (Line, Vec<Line>) {
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|(_, text)| text.chars().count()).max();
            widest.unwrap_or(0).max(column.head.chars().count())
        })
        .collect();
    let mut kept: Vec<usize> = (0..columns.len()).collect();
    let needs = |kept: &[usize], widths: &[usize]| -> usize {
        kept.iter().map(|index| widths[*index] + 2).sum()
    };
    // A long name must not push out what there is to say of it.
    if needs(&kept, &widths) > width + 2
        && let Some(first) = widths.first_mut()
    {
        *first = (*first).min((width / 3).max(20));
    }
    while needs(&kept, &widths) > width + 2
        && let Some(least) = kept
            .iter()
            .copied()
            .filter(|index| columns[*index].order > 0)
            .max_by_key(|index| columns[*index].order)
    {
        kept.retain(|index| *index != least);
    }
    // What stays must fit: the first column gives way.
    let over = needs(&kept, &widths).saturating_sub(width + 2);
    if let Some(first) = widths.first_mut() {
        *first = first.saturating_sub(over).max((*first).min(8));
    }
    let line = |cells: &dyn Fn(usize) -> Cell| {
        let mut line = Line::default();
        let mut column = 0;
        for index in &kept {
            let (shade, text) = cells(*index);
            let text: String = cut(&text, widths[*index]);
            let spare = widths[*index] - text.chars().count();
            if columns[*index].right {
                line = line.and(Shade::Normal, " ".repeat(spare));
            }
            line = line.and(shade, text);
            column += widths[*index] + 2;
            line = line.to(column);
        }
        line
    };
    let head = line(&|index| (Shade::Quiet, columns[index].head.to_owned()));
    let empty = || (Shade::Normal, String::new());
    let rows = rows
        .iter()
        .map(|row| line(&|index| row.get(index).cloned().unwrap_or_else(empty)))
        .collect();
    (head, rows)
}

fn cut(text: &str, width: usize) -> String {
    let mut shown: String = text.chars().take(width).collect();
    if shown.len() < text.len() && shown.pop().is_some() {
        shown.push('…');
    }
    shown
}
