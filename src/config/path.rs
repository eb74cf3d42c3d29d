//! The path of a value while it is read. It is written out only where something is wrong with the value.

use std::fmt;

/// A path: where it begins, or a step from another one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Path<'a> {
    /// The file as a whole.
    Top,
    /// A key of a block.
    Key(&'a Path<'a>, &'a str),
    /// An element of a list.
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Key(Self::Top, key) => f.write_str(key),
            Self::Key(outer, key) => write!(f, "{outer}.{key}"),
            Self::Index(outer, index) => write!(f, "{outer}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_as_everywhere_else() {
        let listeners = Path::Key(&Path::Top, "listeners");
        let (out, mut text) = (Path::Key(&listeners, "out"), Path::Top.to_string());
        let routes = Path::Key(&out, "routes");
        let route = Path::Index(&routes, 7);
        text += &Path::Key(&route, "retry").to_string();
        assert_eq!(text, "listeners.out.routes[7].retry");
    }
}
