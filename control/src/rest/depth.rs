//! Limits how deeply a JSON text is nested, before it is parsed.

/// Whether objects and arrays are nested at most `most` deep. Does not check that the text is JSON;
/// the parser does.
pub fn is_within(text: &[u8], most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in text {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > most {
                    return false;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert!(is_within(br#"{"a":"[[[[","b":["\"[["]}"#, 2));
        assert!(!is_within(br#"{"a":"[[[[","b":["\"[["]}"#, 1));
        assert!(is_within(b"[[]][[]]", 2));
        assert!(!is_within(b"[[[", 2));
    }
}
