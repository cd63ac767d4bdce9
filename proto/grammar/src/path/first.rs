//! The first grammar of paths. Agents of former releases read no other, and refuse a publish for the
//! rest.

/// Whether text that [`super::Pattern`] accepts is of the first grammar: ASCII without percent signs, where
/// a variable is a whole segment and its name letters, digits and `_`.
pub fn has(text: &str) -> bool {
    text.split('/').all(|segment| is_variable(segment) || segment.bytes().all(is_text))
}

fn is_variable(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.is_some_and(|name| !name.is_empty() && name.bytes().all(word))
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::has;

    #[test]
    fn parts_tails_names_and_encoded_text_came_later() {
        for text in ["/", "/a/", "/a:b/c,d", "/{id}/x", "/a/{user_Id2}"] {
            assert!(has(text), "{text}");
        }
        let later = [
            "/{Sid}.json",
            "/{a}...{b}",
            "/{path+}",
            "/{user-id}",
            "/{ab.c}",
            "/{é}",
            "/a%20b",
            "/é",
        ];
        for text in later {
            assert!(!has(text), "{text}");
        }
    }
}
