//! Names from outside, made fit for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with everything escaped that would not be seen, or that would move the cursor,
/// change colours or turn the direction of what follows.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_harmful(character) {
            let _ = write!(escaped, "{}", character.escape_default()); // a String takes everything
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn is_harmful(character: char) -> bool {
    let directional = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'];
    let overrides = ('\u{202a}'..='\u{202e}').contains(&character) || ('\u{2066}'..='\u{2069}').contains(&character);
    character.is_control() || overrides || directional.contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_is_escaped_and_all_else_is_left() {
        assert_eq!(printable("/rec/täglich 1/録画.mp4"), "/rec/täglich 1/録画.mp4");
        assert_eq!(printable("a\nb\x1b[2Jc\u{9b}d"), "a\\nb\\u{1b}[2Jc\\u{9b}d");
        assert_eq!(printable("x\u{202e}4pm.y"), "x\\u{202e}4pm.y");
    }
}
