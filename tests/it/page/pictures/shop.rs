//! The events of a bakery that does not exist, in many languages. Its numbers are among those that are kept for fiction.

use fastrand::Rng;
use lyftr::event::Event;
use serde_json::{Value, json};

use super::NOW;
use crate::page::event;

/// The number of the bakery.
const SHOP: &str = "+12025550100";
/// The message that the pictures show opened.
pub(super) const OPENED: &str = "wamid.HBgLMTIwMjU1NTAxNzE.7";
/// Days of which there are messages.
const DAYS: i64 = 30;

/// Who writes, through which source, and some lines of theirs. The first one has a conversation instead.
const GUESTS: [(&str, &str, &[&str]); 14] = [
    (
        "+12025550171",
        "shop-wa",
        &["Thank you, see you tomorrow!", "Is the rye bread gluten free?", "Can I pick it up at 5?"],
    ),
    (
        "+33639980142",
        "shop-wa",
        &[
            "Bonjour, avez-vous encore des brioches ?",
            "Parfait, merci beaucoup 🙏",
            "Deux baguettes, s'il vous plaît",
        ],
    ),
    (
        "+491713920012",
        "shop-sms",
        &["Haben Sie morgen Laugenbrezeln?", "Danke, bis Samstag!", "Ein Dinkelbrot, bitte"],
    ),
    ("+447700900118", "shop-sms", &["Running ten minutes late, sorry!", "Could you keep two scones for me?"]),
    (
        "+12025550134",
        "shop-wa",
        &["¿Tienen conchas hoy?", "Muchas gracias 😊", "Quisiera un pastel para ocho personas"],
    ),
    ("+12025550156", "shop-wa", &["مرحبا، هل عندكم خبز طازج؟", "شكرا جزيلا 🌷"]),
    ("+12025550162", "shop-wa", &["שלום, אפשר להזמין חלה ליום שישי?", "תודה רבה!"]),
    ("+12025550187", "shop-wa", &["नमस्ते, क्या केक में अंडा है?", "बहुत धन्यवाद 🙏"]),
    ("+46701740618", "shop-sms", &["Har ni kanelbullar kvar?", "Tack så mycket!"]),
    ("+12025550145", "shop-wa", &["Добрий день! Чи є у вас житній хліб?", "Дякую, до завтра"]),
    ("+61491570156", "shop-sms", &["Any sourdough left today?", "Cheers, on my way"]),
    ("+12025550129", "shop-wa", &["Καλημέρα, έχετε κουλούρια;", "Ευχαριστώ πολύ!"]),
    (
        "+12025550193",
        "webhook",
        &["Order 2031 is ready for collection", "Order 2044 was paid", "Order 2050 is on its way"],
    ),
    ("+12025550108", "shop-wa", &["Bom dia! Ainda há pão de queijo?", "Obrigada 💛"]),
];

/// What is being said as the pictures are taken, newest first: minutes ago, who, what.
const NEWEST: [(i64, usize, &str); 8] = [
    (0, 1, "Bonjour, avez-vous encore des brioches ?"),
    (3, 12, "Order 2050 is on its way"),
    (5, 5, "مرحبا، هل عندكم خبز طازج؟"),
    (9, 2, "Haben Sie morgen Laugenbrezeln?"),
    (18, 6, "שלום, אפשר להזמין חלה ליום שישי?"),
    (21, 10, "Any sourdough left today?"),
    (24, 7, "नमस्ते, क्या केक में अंडा है?"),
    (27, 4, "Quisiera un pastel para ocho personas 🎂"),
];

/// A conversation of this afternoon: minutes ago, whether the guest says it, and what.
const CONVERSATION: [(i64, bool, &str); 8] = [
    (64, true, "Hi! Do you bake for birthdays?"),
    (61, false, "We do. For how many guests, and for when?"),
    (58, true, "Twelve, on Saturday. My daughter turns seven and loves foxes 🦊"),
    (52, false, "A fox it is! Lemon or chocolate inside?"),
    (47, true, "Lemon, please. No nuts: one of the children is allergic."),
    (40, false, "Noted: lemon, no nuts. It is 48 dollars. Shall we write a name on it?"),
    (14, true, "Yes, \"Ada\". Thank you, you are wonderful!"),
    (12, false, "See you on Saturday at ten. We look forward to it!"),
];

/// All of them, in the order of arrival.
pub(super) fn events() -> Vec<Event> {
    let mut said = past();
    said.extend(NEWEST.map(|(minutes, guest, text)| (minutes * 60 + 5, from_guest(guest, text))));
    said.extend(conversation());
    said.sort_by_key(|(seconds_ago, _)| -seconds_ago);
    said.into_iter().enumerate().map(|(nth, (seconds_ago, said))| said.at(seconds_ago, nth)).collect()
}

/// An event that has yet to get its time.
struct Said {
    source: &'static str,
    kind: &'static str,
    key: Option<String>,
    fields: Value,
}

impl Said {
    fn at(self, seconds_ago: i64, nth: usize) -> Event {
        let now: jiff::Timestamp = NOW.parse().unwrap();
        let mut fields = self.fields;
        fields["ts"] =
            jiff::Timestamp::from_second(now.as_second() - seconds_ago).unwrap().to_string().into();
        event(self.source, self.kind, &self.key.unwrap_or_else(|| format!("{}-{nth}", self.kind)), &fields)
    }
}

fn from_guest(guest: usize, text: &str) -> Said {
    let (number, source, _) = GUESTS[guest];
    let fields = json!({"from": number, "to": SHOP, "type": "text", "text": text});
    Said { source, kind: "message", key: None, fields }
}

/// A month of messages, more at noon than in the morning, most on Saturdays, with the statuses of some.
fn past() -> Vec<(i64, Said)> {
    let mut rng = Rng::with_seed(7);
    let mut said = Vec::new();
    for hours_ago in 2..DAYS * 24 {
        let (hour, day) = ((15 - hours_ago).rem_euclid(24), (hours_ago + 8) / 24);
        let busy = match hour {
            7..=9 => 6,
            10..=13 => 10,
            14..=18 => 7,
            19..=21 => 2,
            _ => 0,
        };
        let of_day = match day % 7 {
            6 => 16,
            5 => 2,
            _ => 10,
        };
        for _ in 0..(busy * of_day / 10 * rng.i64(60..140) / 100) {
            let guest = rng.usize(1..GUESTS.len()).min(rng.usize(1..GUESTS.len()));
            let seconds_ago = hours_ago * 3600 + rng.i64(0..3600);
            let text = rng.choice(GUESTS[guest].2).unwrap();
            said.push((seconds_ago, from_guest(guest, text)));
            if rng.u8(..3) == 0 {
                let fields = json!({"ref": "wamid.0", "type": "read", "to": GUESTS[guest].0});
                said.push((seconds_ago - 60, Said { source: "shop-wa", kind: "status", key: None, fields }));
            }
        }
    }
    said
}

/// What is said in the conversation, and what became of it.
fn conversation() -> Vec<(i64, Said)> {
    let guest = GUESTS[0].0;
    let key = |nth: usize| format!("{}.{}", OPENED.rsplit_once('.').unwrap().0, nth + 1);
    let mut said: Vec<_> = (0..).zip(CONVERSATION).map(|(nth, (minutes, is_guest, text))| {
        let (from, to) = if is_guest { (guest, SHOP) } else { (SHOP, guest) };
        let data = json!({"from": from.trim_start_matches('+'), "id": key(nth), "type": "text", "text": {"body": text}});
        let fields = json!({
            "from": from, "to": to, "type": "text", "text": text, "thread": guest, "account": "105500000000001",
            "data": data.to_string(),
        });
        (minutes * 60, Said { source: "shop-wa", kind: "message", key: Some(key(nth)), fields })
    }).collect();
    let about = |kind, r#type: &str, text: Value| {
        let fields = json!({"ref": OPENED, "type": r#type, "from": SHOP, "to": guest, "text": text});
        Said { source: "shop-wa", kind, key: None, fields }
    };
    said.push((13 * 60 + 50, about("status", "delivered", json!(null))));
    said.push((13 * 60 + 30, about("status", "read", json!(null))));
    said.push((13 * 60, about("reaction", "reaction", json!("❤️"))));
    said
}
