//! The search index against "the folded text contains the needle".

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index as Pick;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Blocks, Conditions, Error, Search, Snapshot, Text, TextFile};
use crate::message::Moment;
use crate::query::fold;

mod damage;
mod removal;

const SCHEMA: &str = include_str!("../index/texts.sql");

/// A message as the test keeps it.
#[derive(Debug, Clone)]
struct Message {
    seq: i64,
    moment: Moment,
    sender: i64,
    recipient: i64,
    folded: String,
}

/// An index, and beside it what it should hold.
struct Texts {
    folder: TempDir,
    index: Connection,
    file: TextFile,
    memory: Blocks,
    model: Vec<Message>,
}

/// What a search gives: instants and arrival numbers.
type Found = Vec<(Moment, i64)>;

fn any() -> Conditions {
    Conditions { sender: None, recipient: None, moments: Moment::MIN..Moment::MAX }
}

fn at(second: i64) -> Moment {
    Moment { second, nanosecond: 0 }
}

impl Texts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let index = Connection::open_in_memory().unwrap();
        index.execute_batch(SCHEMA).unwrap();
        let file = TextFile::open(&folder.path().join("texts"), &index).unwrap();
        Self { folder, index, file, memory: Blocks::default(), model: Vec::new() }
    }

    /// With these texts, not yet folded, from a sender each.
    fn of<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut made = Self::new();
        for (n, text) in (1..).zip(texts) {
            made.push(Message {
                seq: n,
                moment: at(1_000 + n),
                sender: n,
                recipient: 7,
                folded: fold(text.as_ref()),
            });
        }
        made
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("texts")
    }

    fn push(&mut self, message: Message) {
        let Message { seq, moment, sender, recipient, ref folded } = message;
        self.memory.push(&Text { seq, moment, sender, recipient, folded });
        self.model.push(message);
    }

    fn close(&mut self) {
        let index = self.index.transaction().unwrap();
        self.file.close(&index, &self.memory.snapshot()).unwrap();
        index.commit().unwrap();
        self.memory = Blocks::default();
    }

    fn reopen(&mut self) {
        self.file = TextFile::open(&self.path(), &self.index).unwrap();
    }

    fn remove(&mut self, seqs: &[i64]) {
        let index = self.index.transaction().unwrap();
        self.file.remove(&index, seqs).unwrap();
        index.commit().unwrap();
        self.memory.remove(seqs).unwrap();
        self.model.retain(|message| !seqs.contains(&message.seq));
    }

    fn search(&self, needle: &str, conditions: Conditions) -> Result<Found, Error> {
        let mut found = Vec::new();
        let mut search = Search::new(needle, conditions, &|| false);
        search.segments(&self.file, &self.index, &mut |moment, seq| found.push((moment, seq)))?;
        search.blocks(&self.memory.snapshot(), &mut |moment, seq| found.push((moment, seq)))?;
        Ok(found)
    }

    fn expected(&self, needle: &str, conditions: &Conditions) -> Found {
        let Conditions { sender, recipient, moments } = conditions;
        let meets = |message: &&Message| {
            message.folded.contains(needle)
                && sender.is_none_or(|sender| sender == message.sender)
                && recipient.is_none_or(|recipient| recipient == message.recipient)
                && moments.contains(&message.moment)
        };
        self.model.iter().filter(meets).map(|message| (message.moment, message.seq)).collect()
    }

    fn assert_found(&self, needle: &str, conditions: Conditions) {
        let expected = self.expected(needle, &conditions);
        assert_eq!(self.search(needle, conditions).unwrap(), expected, "{needle:?}");
    }

    /// Every text is found by itself, and by its first, middle and last characters.
    fn assert_all_found(&self) {
        for text in self.model.iter().map(|message| message.folded.as_str()) {
            let chars: Vec<_> = text.chars().collect();
            let part = |from: usize, len: usize| chars.iter().skip(from).take(len).collect::<String>();
            let middle = chars.len() / 2;
            for needle in [
                text,
                &part(0, 3),
                &part(middle, 1),
                &part(middle, 5),
                &part(chars.len().saturating_sub(2), 2),
            ] {
                self.assert_found(needle, any());
            }
        }
    }

    fn check(&self) -> Result<Vec<(i64, String)>, Error> {
        let mut all = Vec::new();
        TextFile::open_to_read(&self.path())?
            .check(&self.index, &mut |seq, folded| all.push((seq, folded.to_owned())))?;
        Ok(all)
    }

    /// The segments hold the model, as far as it is not in memory, and are sound.
    fn assert_sound(&self) {
        let in_memory = self.search_memory("");
        let mut all: Vec<_> =
            self.model.iter().map(|message| (message.seq, message.folded.clone())).collect();
        all.retain(|(seq, _)| !in_memory.contains(seq));
        assert_eq!(self.check().unwrap(), all);
    }

    fn search_memory(&self, needle: &str) -> Vec<i64> {
        let mut found = Vec::new();
        let search = Search::new(needle, any(), &|| false);
        search.blocks(&self.memory.snapshot(), &mut |_, seq| found.push(seq)).unwrap();
        found
    }
}

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Add { gap: i64, second: i64, nanosecond: u32, sender: i64, recipient: i64, text: String, times: usize },
    Close,
    Remove(Vec<Pick>),
    Reopen,
}

/// Texts of a few letters, so that they share a lot, and of many scripts.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abAB ]{0,12}",
        3 => "[aßſsSıİiΐΰΣςσ\n]{0,10}",
        2 => "[订单消息我的ПриветमराठीالعرІ🙏🏽é\0]{0,12}",
        1 => "\\PC{0,30}",
        1 => "(abc|ИИ|订|🙏){0,3000}",
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let number = prop_oneof![0_i64..4, any_number()];
    let second = prop_oneof![0_i64..10, any_number()];
    let nanosecond = prop_oneof![Just(0), 0..1_000_000_000_u32];
    let add = (1..4_i64, second, nanosecond, number.clone(), number, text(), 1..40_usize).prop_map(
        |(gap, second, nanosecond, sender, recipient, text, times)| Step::Add {
            gap,
            second,
            nanosecond,
            sender,
            recipient,
            text,
            times,
        },
    );
    prop_oneof![
        12 => add,
        2 => Just(Step::Close),
        2 => prop::collection::vec(proptest::prelude::any::<Pick>(), 1..20).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
    ]
}

fn any_number() -> impl Strategy<Value = i64> {
    proptest::prelude::any::<i64>()
}

/// A history, carried out.
fn carried_out(steps: Vec<Step>) -> Texts {
    let mut texts = Texts::new();
    let all: Vec<i64> = (1..500).collect();
    let mut last = 0;
    for step in steps {
        match step {
            Step::Add { gap, second, nanosecond, sender, recipient, text, times } => {
                for _ in 0..times {
                    last += gap;
                    let moment = Moment { second, nanosecond };
                    texts.push(Message { seq: last, moment, sender, recipient, folded: fold(&text) });
                }
            }
            Step::Close => texts.close(),
            Step::Remove(picks) => {
                let mut seqs: Vec<i64> = picks.iter().map(|pick| *pick.get(&all)).collect();
                seqs.sort_unstable();
                seqs.dedup();
                texts.remove(&seqs);
            }
            Step::Reopen => texts.reopen(),
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_search_finds_what_contains_the_needle(
        steps in prop::collection::vec(step(), 1..40),
        picks in prop::collection::vec((proptest::prelude::any::<(Pick, Pick, Pick)>(), 0..9_usize), 12),
        others in prop::collection::vec(text(), 3),
    ) {
        let texts = carried_out(steps);
        texts.assert_sound();
        let mut needles: Vec<_> = others.iter().map(|text| fold(text)).collect();
        for ((text, begin, _), len) in &picks {
            if let Some(message) = texts.model.get(text.index(texts.model.len().max(1))) {
                let chars: Vec<_> = message.folded.chars().collect();
                needles.push(chars.iter().skip(begin.index(chars.len() + 1)).take(*len).collect());
            }
        }
        for needle in needles {
            texts.assert_found(&needle, any());
            for ((text, other, _), _) in picks.iter().take(3) {
                let count = texts.model.len().max(1);
                let Some((one, other)) = texts.model.get(text.index(count)).zip(texts.model.get(other.index(count)))
                else { continue };
                texts.assert_found(&needle, Conditions { sender: Some(one.sender), ..any() });
                texts.assert_found(&needle, Conditions { recipient: Some(one.recipient), ..any() });
                let moments = one.moment.min(other.moment)..one.moment.max(other.moment);
                texts.assert_found(&needle, Conditions { sender: Some(other.sender), recipient: Some(one.recipient), moments });
            }
        }
    }
}

#[test]
fn texts_at_the_edges_are_found_in_memory_and_in_the_file() {
    let chinese: String = ('\u{4e00}'..).take(4_096).collect();
    let long = "long \u{1f64f} text".repeat(100_000);
    let mut texts = Texts::of([
        "",
        "a",
        "ab",
        "",
        "Straße",
        "STRASSE",
        "İstanbul",
        "ΐ",
        "🙏🏽🙏",
        "a\0b\0\0c",
        "one\ntwo",
        &chinese,
        "after",
        &long,
        "last",
        "",
    ]);
    texts.assert_all_found();
    texts.close();
    texts.assert_all_found();
    texts.assert_sound();
    assert!(texts.search("strasse", any()).unwrap().len() == 2 && long.len() > 1 << 20);
}

#[test]
fn no_match_reaches_from_one_text_into_the_next() {
    let mut texts = Texts::of(["abc", "def", "abcd", "ef", "cde"]);
    for _ in 0..2 {
        let found =
            |needle| texts.search(needle, any()).unwrap().into_iter().map(|(_, seq)| seq).collect::<Vec<_>>();
        assert_eq!(found("cde"), [5]);
        assert_eq!(found("cd"), [3, 5]);
        assert_eq!(found("abcdef"), [0; 0]);
        texts.close();
    }
}

#[test]
fn a_needle_that_most_blocks_hold_and_one_that_none_holds_are_found_across_segments() {
    let mut texts = Texts::new();
    for seq in 1..=3_000 {
        let rare = if seq % 700 == 0 { "zebrafinch" } else { "" };
        let folded = format!("message {seq} about the order {rare} {}", "filling ".repeat(10));
        texts.push(Message { seq, moment: at(seq / 3), sender: seq % 5, recipient: 7, folded });
        if seq % 1_300 == 0 {
            texts.close();
        }
    }
    for needle in
        ["order", "zebrafinch", "zebrafinches", "message 29", "e", "ab", "", "quokka", &"filling ".repeat(10)]
    {
        texts.assert_found(needle, any());
        texts.assert_found(needle, Conditions { sender: Some(3), ..any() });
        texts.assert_found(needle, Conditions { moments: at(430)..at(440), ..any() });
    }
    texts.assert_sound();
}

#[test]
fn blocks_are_full_at_eight_mebibytes() {
    let mut blocks = Blocks::default();
    let folded = "x".repeat(1_000);
    let mut seq = 0;
    while !blocks.is_full() {
        seq += 1;
        blocks.push(&Text { seq, moment: at(seq), sender: 1, recipient: 2, folded: &folded });
    }
    assert_eq!(seq, 4 * 2_048 + 1, "four texts of this length fit into a block");
}

#[test]
fn a_search_can_be_given_up() {
    let mut texts = Texts::of(["abc"]);
    let given_up = |texts: &Texts| {
        let mut search = Search::new("abc", any(), &|| true);
        let in_file = search.segments(&texts.file, &texts.index, &mut |_, _| panic!("found"));
        (in_file, search.blocks(&texts.memory.snapshot(), &mut |_, _| panic!("found")))
    };
    assert!(matches!(given_up(&texts), (Ok(()), Err(Error::GivenUp))));
    texts.close();
    assert!(matches!(given_up(&texts), (Err(Error::GivenUp), Ok(()))));
}

#[test]
fn what_the_index_does_not_name_is_cut_off_at_a_start() {
    let mut texts = Texts::of(["kept"]);
    texts.close();
    let kept = std::fs::metadata(texts.path()).unwrap().len();
    texts.push(Message { seq: 2, moment: at(2), sender: 1, recipient: 1, folded: "lost".to_owned() });
    let index = texts.index.transaction().unwrap();
    texts.file.close(&index, &texts.memory.snapshot()).unwrap();
    drop(index);
    assert_eq!(std::fs::metadata(texts.path()).unwrap().len(), 2 * kept);
    texts.reopen();
    assert_eq!(std::fs::metadata(texts.path()).unwrap().len(), kept);
    texts.close();
    texts.assert_all_found();
    texts.assert_sound();
}

#[test]
fn blocks_that_could_not_be_closed_leave_nothing_when_they_are_closed_again() {
    let mut texts = Texts::of(["kept".to_owned(), "secret ".repeat(1_000)]);
    let index = texts.index.transaction().unwrap();
    texts.file.close(&index, &texts.memory.snapshot()).unwrap();
    drop(index);
    texts.remove(&[2]);
    texts.close();
    let bytes = std::fs::read(texts.path()).unwrap();
    assert!(memchr::memmem::find(&bytes, b"secret").is_none());
    texts.assert_sound();
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let mut texts = Texts::of(["first"]);
    let snapshot: Snapshot = texts.memory.snapshot();
    texts.push(Message { seq: 2, moment: at(2), sender: 1, recipient: 1, folded: "first again".to_owned() });
    texts.memory.remove(&[1]).unwrap();
    let mut found = Vec::new();
    Search::new("first", any(), &|| false).blocks(&snapshot, &mut |_, seq| found.push(seq)).unwrap();
    assert_eq!((found, texts.search_memory("first")), (vec![1], vec![2]));
}
