//! Deliveries that are made up: every item once, in its own envelope, whatever the company it comes in.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// An item as it is sent, with its array and its contact.
#[derive(Debug, Clone)]
struct Item {
    array: &'static str,
    text: String,
    contact: Option<String>,
}

/// The items of one value.
type Items = Vec<Item>;

/// The arrays of a value in their order.
const ARRAYS: [&str; 4] = ["messages", "statuses", "calls", "errors"];
const METADATA: &str = "\"messaging_product\":\"whatsapp\",\"metadata\":{\"display_phone_number\":\"15550100100\",\
                        \"phone_number_id\":\"2\"}";

/// People with a number and an id, with a number alone, and with an id alone.
fn contact(person: u8) -> String {
    match person % 3 {
        0 => format!("{{\"wa_id\":\"1202555{person:04}\",\"user_id\":\"US.{person}\"}}"),
        1 => format!("{{\"profile\":{{\"name\":\"\\u00e9\"}}, \"wa_id\":\"1202555{person:04}\"}}"),
        _ => format!("{{\"user_id\" : \"US.{person}\",\"profile\":{{\"username\":\"u{person}\"}}}}"),
    }
}

/// The member of an item that names a person.
fn named(person: u8, number: &str, user_id: &str) -> String {
    match person % 3 {
        2 => format!("\"{user_id}\":\"US.{person}\""),
        _ => format!("\"{number}\":\"1202555{person:04}\""),
    }
}

/// An item with a number that no other has.
fn item(id: u32) -> impl Strategy<Value = Item> {
    let odd = prop_oneof![
        Just(""),
        Just(",\"n\":12345678901234567890123"),
        Just(",\"o\":{\"a\":[ ],\"b\":\"\\u00e9\\/\"}"),
        Just(", \"z\" :\n1.50"),
    ];
    (0..10_u8, 0..6, odd, "[a-z\"\\\\é😀]{0,8}").prop_map(move |(person, shape, odd, words)| {
        let said = Value::from(words);
        let from = named(person, "from", "from_user_id");
        let (array, members) = match shape {
            0 => ("messages", format!("{from},\"id\":\"wamid.{id}\",\"type\":\"text\",\"timestamp\":\"1795000000\",\"text\":{{\"body\":{said}}}")),
            1 => ("messages", format!("{from},\"type\":\"reaction\",\"id\":\"wamid.{id}\",\"reaction\":{{\"emoji\":{said}}}")),
            2 => {
                let to = named(person, "recipient_id", "recipient_user_id");
                ("statuses", format!("\"id\":\"wamid.{id}\",\"status\":\"read\",{to}"))
            }
            3 => ("calls", format!("\"id\":\"wacid.{id}\",\"event\":\"connect\",{from}")),
            4 => ("errors", format!("\"code\":{id}")),
            // Without an id: malformed.
            _ => ("messages", format!("\"from\":\"9\",\"broken\":{id}")),
        };
        Item { array, text: format!("{{{members}{odd}}}"), contact: (shape < 4).then(|| contact(person)) }
    })
}

/// Values of 1 to 4 items, no two of them alike.
fn values() -> impl Strategy<Value = Vec<Items>> {
    proptest::collection::vec(1..5_u32, 1..5).prop_flat_map(|sizes| {
        let numbered = (1..).step_by(5).zip(sizes);
        numbered.map(|(first, size)| (first..first + size).map(item).collect::<Vec<_>>()).collect::<Vec<_>>()
    })
}

fn of_array<'i>(items: &'i [Item], array: &str) -> impl Iterator<Item = &'i Item> {
    items.iter().filter(move |item| item.array == array)
}

/// A change with all contacts of its items, last first, and with strangers that nobody names.
fn change_of(items: &[Item]) -> String {
    let contacts: BTreeSet<_> = items.iter().filter_map(|item| item.contact.clone()).collect();
    let strangers = ["{\"wa_id\":\"1\"}", "{\"user_id\":\"US.X\"}"].map(str::to_owned);
    let contacts: Vec<_> = contacts.into_iter().rev().chain(strangers).collect();
    let arrays = ARRAYS.map(|array| {
        let texts: Vec<_> = of_array(items, array).map(|item| item.text.as_str()).collect();
        format!("\"{array}\":[{}]", texts.join(", "))
    });
    let (contacts, arrays) = (contacts.join(","), arrays.join(","));
    format!("{{\"value\":{{{METADATA},\"contacts\":[{contacts}],{arrays}}},\"field\":\"messages\"}}")
}

fn delivery_of(values: &[Items]) -> String {
    let changes: Vec<_> = values.iter().map(|items| change_of(items)).collect();
    let entry = format!("{{\"id\":\"7\",\"changes\":[{}]}}", changes.join(","));
    format!("{{\"object\":\"whatsapp_business_account\",\"entry\":[{entry}]}}")
}

/// The envelope of one item.
fn reduced(item: &Item) -> Value {
    let contacts =
        item.contact.as_ref().map_or(String::new(), |contact| format!(",\"contacts\":[{contact}]"));
    let value = format!("{{{METADATA}{contacts},\"{}\":[{}]}}", item.array, item.text);
    change("messages", &serde_json::from_str(&value).unwrap())
}

/// What a store holds after these deliveries: everything by which two events differ.
fn stored(bodies: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    bodies.into_iter().flat_map(events).map(|event| format!("{event:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_item_is_one_event_in_its_own_envelope(values in values()) {
        let events = events(delivery_of(&values));
        let items: Vec<_> =
            values.iter().flat_map(|items| ARRAYS.iter().flat_map(|array| of_array(items, array))).collect();
        prop_assert_eq!(events.len(), items.len());
        for (event, item) in events.iter().zip(items) {
            let kept = event.data.as_ref().unwrap().as_str();
            prop_assert!(kept.contains(&item.text));
            let mut expected = reduced(item);
            expected["entry"][0]["id"] = "7".into();
            prop_assert_eq!(data(event), expected);
            let again = super::events(kept);
            prop_assert_eq!(again.as_slice(), std::slice::from_ref(event));
        }
    }

    #[test]
    fn any_order_repetition_and_company_of_items_gives_the_same_events(
        values in values(),
        order in proptest::collection::vec((any::<Index>(), 1..4_usize), 1..12),
        turn in any::<Index>(),
    ) {
        let expected = stored([delivery_of(&values)]);
        // Each value in a delivery of its own, and some of them again in others, in any order.
        let once = values.iter().map(|items| delivery_of(std::slice::from_ref(items)));
        let again = order.iter().map(|(at, count)| {
            let from = at.index(values.len());
            delivery_of(&values[from..values.len().min(from + count)])
        });
        let mut bodies: Vec<_> = again.chain(once).collect();
        let by = turn.index(bodies.len());
        bodies.rotate_left(by);
        prop_assert_eq!(&stored(bodies), &expected);
        // Each item alone.
        let alone = values.iter().flatten().rev().map(|item| delivery_of(&[vec![item.clone()]]));
        prop_assert_eq!(&stored(alone), &expected);
    }

    #[test]
    fn garbage_is_an_event_and_never_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(!events(body).is_empty());
    }

    #[test]
    fn damage_is_an_event_and_never_a_panic(
        case in 0..CASES,
        damage in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut body = read_body(cases()[case].1["body"].as_str().unwrap());
        for (at, byte) in damage {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        let events = events(&body);
        prop_assert!(!events.is_empty());
        for event in events {
            prop_assert!(Name::new(event.key.as_str()).is_ok());
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(event.data.unwrap().as_str()).is_ok());
        }
    }
}
