//! Text that came from outside and is shown to people: never at length, and without what would command
//! their terminal or turn round what they read.

use std::borrow::Cow;

/// What stands where a text was cut.
const CUT: &str = "…";

/// The text, or as many whole characters of it as fit into so many bytes, and the sign that more followed.
pub fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let begin = &text[..text.floor_char_boundary(most)];
    format!("{begin}{CUT}").into()
}

/// One line of the text, harmless to show: a space stands for each end of a line and each tab, and U+FFFD
/// for other control characters and for those that change the direction of what follows.
pub fn harmless(text: &str) -> String {
    let clean = |c: char| match c {
        '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        // They let a name read as another one does.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(clean).collect()
}

/// Both: harmless, and [`shortened`] to so many bytes of what came.
pub fn shown(text: &str, most: usize) -> String {
    harmless(&shortened(text, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_between_two_characters_and_says_so() {
        assert_eq!(shortened("añb", 4), "añb");
        assert_eq!(shortened("añb", 3), "añ…");
        assert_eq!(shortened("añb", 2), "a…");
        assert_eq!(shortened("añb", 0), "…");
        assert_eq!(shortened("", 0), "");
    }

    #[test]
    fn what_commands_a_terminal_or_turns_a_text_round_becomes_harmless() {
        assert_eq!(harmless("a\r\n\tb\u{2028}ü–😀"), "a   b ü–😀");
        let odd = "gone \u{1b}]0;title\u{7}\u{9b}2J \u{202e}txt.exe\u{2066}x\u{2069}\u{7f}";
        let replaced = "gone �]0;title��2J �txt.exe�x��";
        assert_eq!(harmless(odd), replaced);
        assert_eq!(shown("\u{1b}\u{1b}", 1), "�…");
    }
}
