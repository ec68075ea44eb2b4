//! Texts in several languages, made up of words of which a few are common and most are rare.

use fastrand::Rng;

use crate::random::{pick, rank, rng};

/// Is in exactly [`RARE_MESSAGES`] messages of a store, whatever its size.
pub const RARE: &str = "zebrafinch";
pub const RARE_MESSAGES: u64 = 20;
/// Each is in one message of so many.
pub const MARKERS: [(&str, u64); 2] = [("mandolin", 10_000), ("marigold", 100)];
/// Are in no message; the second one has only groups of three letters that others have.
pub const ABSENT: [&str; 2] = ["quokkaparade", "mandolinmarigold"];

/// Words of a language: those of its list, and others put together from its parts.
const VOCABULARY: u64 = 20_000;
/// A text is filled up to a length between these, in characters; the last word may go over it.
const LENGTH: std::ops::Range<usize> = 45..370;
/// One word in so many is a number, and one is of another language.
const NUMBER_ONE_IN: u8 = 15;
const FOREIGN_ONE_IN: u8 = 20;

/// A line for each language: how many of 100 messages it writes, what stands between two words, its most common words,
/// the commonest first, and the parts of its other words.
const LANGUAGES: &str = include_str!("languages.txt");

#[derive(Debug)]
pub struct Texts {
    languages: Vec<Language>,
    /// The language of each of 100 messages.
    shares: Vec<usize>,
}

#[derive(Debug)]
struct Language {
    between: &'static str,
    words: Vec<&'static str>,
    parts: Vec<&'static str>,
}

impl Texts {
    pub fn new() -> Self {
        let (mut languages, mut shares) = (Vec::new(), Vec::new());
        for line in LANGUAGES.lines() {
            let [share, between, words, parts] =
                [0, 1, 2, 3].map(|n| line.split('|').nth(n).unwrap_or_default());
            let [words, parts] = [words, parts].map(|list| list.split(' ').collect());
            shares.extend(std::iter::repeat_n(languages.len(), share.parse().unwrap_or(0)));
            languages.push(Language { between, words, parts });
        }
        Self { languages, shares }
    }

    /// A text of 40 to 400 characters that holds `markers`.
    pub fn write(&self, rng: &mut Rng, markers: &[&str]) -> String {
        let main = &self.languages[*pick(rng, &self.shares)];
        // The lesser of two: short texts are more frequent than long ones.
        let length = rng.usize(LENGTH).min(rng.usize(LENGTH));
        let mut text = String::with_capacity(2 * length);
        let mut chars = 0;
        for marker in markers {
            chars += put(&mut text, rng, marker, " ");
        }
        while chars < length {
            let language = if rng.u8(..FOREIGN_ONE_IN) == 0 { pick(rng, &self.languages) } else { main };
            chars += if rng.u8(..NUMBER_ONE_IN) == 0 {
                let end = *pick(rng, &[100, 10_000, 1_000_000]);
                let number = rng.u32(..end).to_string();
                put(&mut text, rng, &number, " ")
            } else {
                let word = language.word(rank(rng, VOCABULARY));
                put(&mut text, rng, &word, language.between)
            };
        }
        text
    }
}

impl Language {
    /// The word of this rank: out of the list, or put together from parts, always the same.
    fn word(&self, rank: u64) -> String {
        if let Some(word) = usize::try_from(rank).ok().and_then(|rank| self.words.get(rank)) {
            return (*word).to_owned();
        }
        let mut rng = rng(0, rank);
        (0..rng.u8(2..=3)).map(|_| *pick(&mut rng, &self.parts)).collect()
    }
}

/// Adds a word, one in eight with a capital letter; returns how many characters that were.
fn put(text: &mut String, rng: &mut Rng, word: &str, between: &str) -> usize {
    let before = text.len();
    if !text.is_empty() {
        text.push_str(between);
    }
    let mut letters = word.chars();
    if rng.u8(..8) == 0 {
        text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
    }
    text.push_str(letters.as_str());
    text[before..].chars().count()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn texts_have_their_lengths_languages_and_rare_words() {
        let texts = Texts::new();
        assert_eq!(texts.shares.len(), 100);
        let many: Vec<_> = (0..5_000).map(|index| texts.write(&mut rng(3, index), &[])).collect();
        let mut lengths: Vec<_> = many.iter().map(|text| text.chars().count()).collect();
        lengths.sort_unstable();
        assert!(lengths[0] >= 40 && lengths[4_999] <= 400, "{lengths:?}");
        assert!((120..200).contains(&lengths[2_500]), "{}", lengths[2_500]);
        for word in ["order", "pedido", "Rechnung", "заказ", "नहीं", "الطلب", "订单", "🙏"]
        {
            assert!(many.iter().any(|text| text.contains(word)), "{word}");
        }
        assert!(many.iter().filter(|text| text.contains(" the ")).count() > 1_000);
        let different: HashSet<_> = many.iter().flat_map(|text| text.split(' ')).collect();
        assert!(different.len() > 10_000, "{}", different.len());
    }
}
