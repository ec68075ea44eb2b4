//! What people write, made up: words of several languages, a few of them common and most of them rare.

use super::chance::Chance;

/// Is in exactly [`RARE_MESSAGES`] messages of a store, whatever its size.
pub const RARE: &str = "zebrafinch";
/// Messages that hold [`RARE`].
pub const RARE_MESSAGES: u64 = 20;
/// Is in one message of [`SELDOM_ONE_IN`].
pub const SELDOM: &str = "mandolin";
/// Messages for each that holds [`SELDOM`].
pub const SELDOM_ONE_IN: u64 = 10_000;
/// Is in one message of [`COMMON_ONE_IN`].
pub const COMMON: &str = "marigold";
/// Messages for each that holds [`COMMON`].
pub const COMMON_ONE_IN: u64 = 100;
/// Are in no message; the second one has only groups of three letters that others have.
pub const ABSENT: [&str; 2] = ["quokkaparade", "mandolinmarigold"];

/// Words of a language: those of its list, and others put together from its parts.
const VOCABULARY: u64 = 20_000;
/// A text is filled up to a length between these, in characters; the last word may go over it.
const LENGTH_MIN: u64 = 45;
const LENGTH_MAX: u64 = 370;
/// One word in so many is a number, and one is of another language.
const NUMBER_ONE_IN: u64 = 15;
const FOREIGN_ONE_IN: u64 = 20;

/// How a language makes its texts.
struct Language {
    /// Of 100 messages.
    share: u64,
    /// Between two words.
    between: &'static str,
    /// The most common words, the commonest first.
    words: &'static str,
    /// What the other words are put together from.
    parts: &'static str,
}

const LANGUAGES: [Language; 8] = [
    Language {
        share: 40,
        between: " ",
        words: "the to you I and is it for my order in of please can that on have with at we be your this \
                tomorrow not me are was will thanks when help today do call from invoice delivery need by send \
                address time morning open payment store number refund received appointment yesterday",
        parts: "con ter re in ment der sta ber mi lo ver pro nal est per cal com ton li ran",
    },
    Language {
        share: 15,
        between: " ",
        words: "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le \
                pedido gracias mañana cuándo envío dirección número también está aquí señor factura",
        parts: "ca do mien to ción ra ñe ros pa li que sa ten mos bre ja cu er ga ló",
    },
    Language {
        share: 10,
        between: " ",
        words: "die der und in zu den das nicht von sie ist des sich mit dem dass er es ein ich auf so eine \
                Bestellung bitte danke morgen Straße Rechnung für können über Lieferung heute schön größer",
        parts: "ver ge lich keit schaf ung be ein ter nau wär zug mei stell fra hö au ren schn ber",
    },
    Language {
        share: 12,
        between: " ",
        words: "и в не на я что быть он с это как по но они к у мы из за так от все сказать этот который \
                заказ спасибо привет доставка завтра пожалуйста адрес деньги когда можно хорошо",
        parts: "ста ни про ра во ли ко мен тор ва де пре на ло ши за ред че ми гу",
    },
    Language {
        share: 8,
        between: " ",
        words: "के है में की से को का और पर यह कि ने हैं लिए एक भी था नहीं कर तो मैं आप धन्यवाद कल ऑर्डर पता \
                भुगतान समय नमस्ते दुकान कृपया आज",
        parts: "का रा मी ना सु ता वि पा ली दे हो जा गी मो शा नि क ल र न",
    },
    Language {
        share: 5,
        between: " ",
        words: "في من على أن إلى هذا مع كان التي عن لا ما هو الذي بعد كل هل شكرا الطلب غدا العنوان متى \
                رقم التوصيل مرحبا اليوم الدفع",
        parts: "ال مر كا سي نو ب ت ر لم ها دي وا ش ق ف حم ني عا سل بي",
    },
    Language {
        share: 7,
        between: "",
        words: "的 我 你 了 是 在 他 不 们 有 订单 谢谢 明天 地址 什么 时候 可以 请问 已经 收到 发货 付款 你好 商店 \
                今天 退款 电话 帮忙 快递 ，",
        parts: "天 地 人 水 火 山 石 田 土 木 金 日 月 星 云 风 雨 雪 花 草",
    },
    Language {
        share: 3,
        between: " ",
        words: "😀 🙏 👍 ❤️ 😂 🎉 🚚 📦 💳 ⏰ 🏠 📞 ok yes no 👋🏽 👨‍👩‍👧 🇮🇳",
        parts: "😀 🙏 👍 😂 🎉 🚚 📦 💳 🏠 📞 ha la",
    },
];

/// The languages, their lists taken apart.
#[derive(Debug)]
pub struct Texts {
    lists: Vec<Lists>,
    /// The language of each of 100 messages.
    shares: Vec<usize>,
}

#[derive(Debug)]
struct Lists {
    between: &'static str,
    words: Vec<&'static str>,
    parts: Vec<&'static str>,
}

impl Texts {
    /// Takes the lists apart.
    pub fn new() -> Self {
        let split = |list: &'static str| list.split_whitespace().collect();
        let lists = LANGUAGES.iter().map(|language| Lists {
            between: language.between,
            words: split(language.words),
            parts: split(language.parts),
        });
        let shares = LANGUAGES.iter().enumerate().flat_map(|(index, language)| {
            std::iter::repeat_n(index, usize::try_from(language.share).unwrap_or_default())
        });
        Self { lists: lists.collect(), shares: shares.collect() }
    }

    /// A text of 40 to 400 characters that holds `markers`.
    pub fn write(&self, chance: &mut Chance, markers: &[&str]) -> String {
        let language = &self.lists[*chance.pick(&self.shares)];
        // The lesser of two: short texts are more frequent than long ones.
        let span = LENGTH_MAX - LENGTH_MIN;
        let length = LENGTH_MIN + chance.below(span).min(chance.below(span));
        let length = usize::try_from(length).unwrap_or_default();
        let mut text = String::with_capacity(2 * length);
        let mut chars = 0;
        for marker in markers {
            chars += put(&mut text, chance, marker, " ");
        }
        while chars < length {
            let language = if chance.one_in(FOREIGN_ONE_IN) { chance.pick(&self.lists) } else { language };
            chars += if chance.one_in(NUMBER_ONE_IN) {
                let number = chance_number(chance);
                put(&mut text, chance, &number, " ")
            } else {
                let word = language.word(chance.rank(VOCABULARY));
                put(&mut text, chance, &word, language.between)
            };
        }
        text
    }
}

impl Lists {
    /// The word of this rank: out of the list, or put together from parts, always the same.
    fn word(&self, rank: u64) -> String {
        if let Some(word) = usize::try_from(rank).ok().and_then(|rank| self.words.get(rank)) {
            return (*word).to_owned();
        }
        let mut chance = Chance::new(0, rank);
        (0..2 + chance.below(2)).map(|_| *chance.pick(&self.parts)).collect()
    }
}

fn chance_number(chance: &mut Chance) -> String {
    let digits = [100, 10_000, 1_000_000];
    let end = *chance.pick(&digits);
    chance.below(end).to_string()
}

/// Adds a word, one in eight with a capital letter; returns how many characters that were.
fn put(text: &mut String, chance: &mut Chance, word: &str, between: &str) -> usize {
    let before = text.len();
    if !text.is_empty() {
        text.push_str(between);
    }
    let mut letters = word.chars();
    match letters.next().filter(|_| chance.one_in(8)) {
        Some(first) => {
            text.extend(first.to_uppercase());
            text.push_str(letters.as_str());
        }
        None => text.push_str(word),
    }
    text[before..].chars().count()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn many(count: u64) -> Vec<String> {
        let texts = Texts::new();
        (0..count).map(|index| texts.write(&mut Chance::new(3, index), &[])).collect()
    }

    #[test]
    fn shares_are_of_a_hundred() {
        assert_eq!(Texts::new().shares.len(), 100);
    }

    #[test]
    fn texts_are_as_long_as_they_should_be() {
        let mut lengths: Vec<_> = many(5_000).iter().map(|text| text.chars().count()).collect();
        lengths.sort_unstable();
        assert!(*lengths.first().unwrap() >= 40, "{lengths:?}");
        assert!(*lengths.last().unwrap() <= 400, "{lengths:?}");
        assert!((120..200).contains(&lengths[2_500]), "{}", lengths[2_500]);
    }

    #[test]
    fn every_language_is_written_and_no_marker() {
        let texts = many(5_000);
        for word in ["order", "pedido", "Rechnung", "заказ", "नहीं", "الطلب", "订单", "🙏"]
        {
            assert!(texts.iter().any(|text| text.contains(word)), "{word}");
        }
        for marker in [RARE, SELDOM, COMMON, ABSENT[0], ABSENT[1]] {
            assert!(!texts.iter().any(|text| text.to_lowercase().contains(marker)), "{marker}");
        }
    }

    #[test]
    fn some_words_are_common_and_most_are_rare() {
        let texts = many(5_000);
        let common = texts.iter().filter(|text| text.contains(" the ")).count();
        assert!(common > 1_000, "{common}");
        let different: HashSet<_> = texts.iter().flat_map(|text| text.split(' ')).collect();
        assert!(different.len() > 10_000, "{}", different.len());
    }

    #[test]
    fn markers_are_in_their_text_in_any_case() {
        let texts = Texts::new();
        for index in 0..100 {
            let text = texts.write(&mut Chance::new(1, index), &[RARE, COMMON]).to_lowercase();
            assert!(text.contains(RARE) && text.contains(COMMON), "{text}");
            assert!(text.chars().count() <= 400);
        }
    }
}
