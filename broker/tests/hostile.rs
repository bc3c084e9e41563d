//! Foreign texts as addresses of records: nothing but plain words comes through, and filters select as NATS does.

use broker::{Filter, Subject, Token};
use proptest::prelude::*;

/// Whether a pattern selects words, by trying every way.
fn selects(pattern: &[&str], words: &[&str]) -> bool {
    match (pattern, words) {
        ([], []) | ([">"], [_, ..]) => true,
        ([first, pattern @ ..], [word, words @ ..]) => {
            (*first == "*" || first == word) && selects(pattern, words)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_text_is_an_address_or_refused(any in any::<String>(), likely in "[a-c*>. ]{0,12}", long in "[a-z.]{500,520}") {
        for text in [any, likely, long] {
            let plain = |word: &str| {
                let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                (1..=128).contains(&word.len()) && word.chars().all(allowed)
            };
            let valid = text.len() <= 512 && text.split('.').all(plain);
            match Subject::new(text.as_str()) {
                Ok(subject) => prop_assert!(valid && subject.as_str() == text),
                Err(_) => prop_assert!(!valid),
            }
            prop_assert_eq!(Token::new(text.as_str()).is_ok(), plain(&text));
            if let Ok(filter) = Filter::new(text.as_str()) {
                prop_assert_eq!(filter.as_str(), &text);
                prop_assert_eq!(filter.literal().is_some(), valid);
            }
        }
    }

    #[test]
    fn a_filter_selects_what_a_naive_one_does(pattern in "[ab*](\\.[ab*]){0,3}(\\.>)?", subject in "[ab](\\.[ab]){0,4}") {
        let words: Vec<_> = subject.split('.').collect();
        let wanted: Vec<_> = pattern.split('.').collect();
        let filter = Filter::new(pattern.as_str()).unwrap();
        let subject = Subject::new(subject.as_str()).unwrap();
        prop_assert_eq!(filter.matches(&subject), selects(&wanted, &words));
    }
}
