//! What was removed is nowhere.

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::lists;
use super::*;

fn contains(bytes: &[u8], part: &str) -> bool {
    memchr::memmem::find(bytes, part.as_bytes()).is_some()
}

fn rows(texts: &Texts) -> Vec<(i64, Vec<u8>)> {
    let mut statement = texts.index.prepare("SELECT id, lists FROM text_list").unwrap();
    statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// Two thousand messages in two segments, each with a word of its own.
fn many() -> Texts {
    let mut texts = Texts::new();
    for (seq, words) in (1..=2_000).zip((1..20).cycle()) {
        let folded = format!("private{seq:05} and then {}", "common words ".repeat(words));
        texts.push(Message { seq, moment: at(seq), sender: 1_000_000 + seq, recipient: 1, folded });
        if seq % 1_000 == 0 {
            texts.close();
        }
    }
    texts
}

#[test]
fn a_removed_text_is_neither_found_nor_in_the_file_nor_in_the_lists() {
    let mut texts = many();
    let seqs: Vec<_> = (1..=2_000).filter(|seq| seq % 7 == 0).collect();
    texts.remove(&seqs);
    texts.assert_sound();
    let bytes = std::fs::read(texts.path()).unwrap();
    let marks = memchr::memmem::find_iter(&bytes, "private").map(|place| &bytes[place + 7..place + 12]);
    let in_file: Vec<i64> =
        marks.map(|number| std::str::from_utf8(number).unwrap().parse().unwrap()).collect();
    assert_eq!(in_file, (1..=2_000).filter(|seq| seq % 7 != 0).collect::<Vec<_>>());
    for seq in (1..=2_000).step_by(3) {
        texts.assert_found(&format!("private{seq:05}"), any());
        texts.assert_found("common", Conditions { sender: Some(1_000_000 + seq), ..any() });
    }
}

#[test]
fn lists_after_a_removal_are_those_of_an_index_that_never_had_the_text() {
    let words = ["unremarkable", "xylophone quartz", "unremarkable quartz"];
    let mut with = Texts::of(words);
    let mut without = Texts::new();
    without.push(with.model[0].clone());
    without.push(with.model[2].clone());
    with.close();
    without.close();
    let lists = |texts: &Texts| lists::written(&texts.index, 1).unwrap();
    assert!(lists(&with) != lists(&without));
    with.remove(&[2]);
    assert!(lists(&with) == lists(&without));
}

#[test]
fn the_only_message_of_several_pages_leaves_none_of_its_bytes() {
    let mut texts = Texts::of(["before".to_owned(), "secret".repeat(30_000), "after".to_owned()]);
    texts.close();
    let length = std::fs::metadata(texts.path()).unwrap().len();
    texts.remove(&[2]);
    assert_eq!(std::fs::metadata(texts.path()).unwrap().len(), length);
    assert!(!contains(&std::fs::read(texts.path()).unwrap(), "secret"));
    texts.assert_all_found();
    texts.assert_sound();
}

#[test]
fn a_removal_whose_transaction_was_lost_can_be_made_again() {
    let mut texts = many();
    let seqs = [3, 5, 999, 1_000, 1_001, 1_700];
    let before = rows(&texts);
    let index = texts.index.transaction().unwrap();
    texts.file.remove(&index, &seqs).unwrap();
    drop(index);
    assert!(rows(&texts) == before);
    texts.reopen();
    texts.model.retain(|message| !seqs.contains(&message.seq));
    texts.assert_found("private", any());
    assert!(matches!(texts.check(), Err(Error::Damaged(_))), "the lists still have traces");
    texts.remove(&seqs);
    texts.assert_sound();
    texts.remove(&[3, 4]);
    texts.assert_sound();
    texts.assert_found("private", any());
}

#[test]
fn a_removal_that_was_killed_within_a_long_block_can_be_made_again() {
    let mut texts = Texts::of(["secret".repeat(3_000)]);
    texts.close();
    let old = std::fs::read(texts.path()).unwrap();
    let index = texts.index.transaction().unwrap();
    texts.file.remove(&index, &[1]).unwrap();
    drop(index);
    let mut torn = std::fs::read(texts.path()).unwrap();
    torn[8_192..].copy_from_slice(&old[8_192..]);
    std::fs::write(texts.path(), torn).unwrap();
    assert!(texts.search("secret", any()).unwrap().is_empty());
    texts.remove(&[1]);
    assert!(!contains(&std::fs::read(texts.path()).unwrap(), "secret"));
    texts.assert_sound();
}

#[test]
fn a_segment_without_messages_has_no_lists_and_takes_no_space_after_a_start() {
    use std::os::unix::fs::MetadataExt as _;
    let mut texts = many();
    let taken = |texts: &Texts| std::fs::metadata(texts.path()).unwrap().blocks();
    let before = taken(&texts);
    texts.remove(&(1..=1_000).collect::<Vec<_>>());
    assert!(rows(&texts).iter().all(|(id, _)| id >> 15 == 2));
    texts.assert_sound();
    texts.reopen();
    assert!(taken(&texts) < before, "{} of {before}", taken(&texts));
    texts.assert_sound();
    texts.assert_found("private", any());
    texts.assert_found("", any());
    texts.remove(&[500, 1_500]);
    texts.assert_found("", any());
    texts.assert_sound();
}

#[test]
fn messages_that_are_not_there_are_passed_over() {
    let mut texts = many();
    let bytes = std::fs::read(texts.path()).unwrap();
    texts.remove(&[-5, 0, 2_001, i64::MAX]);
    texts.remove(&[]);
    assert_eq!(std::fs::read(texts.path()).unwrap(), bytes);
    texts.assert_sound();
}

#[test]
fn a_block_that_is_being_overwritten_is_read_again() {
    let mut texts = Texts::of(["first", "second"]);
    texts.close();
    texts.file.pause = Duration::from_millis(100);
    let whole = std::fs::read(texts.path()).unwrap();
    let torn = [&whole[..50], &[0; 4_046]].concat();
    std::fs::write(texts.path(), &torn).unwrap();
    let begun = std::sync::Barrier::new(2);
    let found = std::thread::scope(|scope| {
        scope.spawn(|| {
            begun.wait();
            texts.file.file.write_all_at(&whole, 0).unwrap();
        });
        let mut found = Vec::new();
        let file = &texts.file;
        // It is asked just before the block is read.
        let ask = || {
            assert_eq!(std::fs::read(texts.path()).unwrap(), torn);
            begun.wait();
            false
        };
        Search::new("second", any(), &ask)
            .segments(file, &texts.index, &mut |_, seq| found.push(seq))
            .unwrap();
        found
    });
    assert_eq!(found, [2]);
}

#[test]
fn a_search_beside_a_removal_finds_all_else() {
    let mut texts = Texts::new();
    for seq in 1..=400 {
        let folded = format!("{} {}", if seq % 2 == 0 { "stays" } else { "leaves" }, "words ".repeat(50));
        texts.push(Message { seq, moment: at(seq), sender: 1, recipient: 1, folded });
    }
    texts.close();
    let expected: Vec<_> = (1..=200).map(|n| 2 * n).collect();
    let stop = AtomicBool::new(false);
    let (file, index) = (&texts.file, &texts.index);
    let path = texts.folder.path().join("index");
    index.execute("VACUUM INTO ?1", [path.to_str().unwrap()]).unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let index = Connection::open(&path).unwrap();
            let mut searches = 0;
            while !stop.load(Ordering::Relaxed) || searches < 10 {
                let mut found = Vec::new();
                Search::new("s", any(), &|| false)
                    .segments(file, &index, &mut |_, seq| found.push(seq))
                    .unwrap();
                found.retain(|seq| seq % 2 == 0);
                assert_eq!(found, expected);
                searches += 1;
            }
        });
        for seq in (1..400).step_by(2) {
            file.remove(index, &[seq]).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

/// A few messages are looked for in a segment of many pages, others of which are those of long texts.
#[test]
fn what_is_looked_for_is_found_and_removed_as_in_a_whole_pass() {
    let mut texts = Texts::new();
    for seq in (2..=12_000).step_by(2) {
        let words = if seq % 501 == 0 { 2_000 } else { 10 };
        let folded = format!("private{seq:05} and then {}", "common words ".repeat(words));
        texts.push(Message { seq, moment: at(seq), sender: 1_000_000 + seq, recipient: 1, folded });
    }
    texts.close();
    let mut gone = Vec::new();
    // The first and the last message, a long text and its neighbours, and some that were never there.
    for seqs in
        [vec![2, 12_000], vec![1_000, 1_002, 1_004], vec![3, 5_000, 5_001, 7_014], vec![4], vec![1, 12_001]]
    {
        texts.remove(&seqs);
        gone.extend(seqs);
        texts.assert_sound();
    }
    let bytes = std::fs::read(texts.path()).unwrap();
    for seq in gone {
        assert!(!contains(&bytes, &format!("private{seq:05}")), "{seq}");
    }
    for seq in (2..=12_000).step_by(97) {
        texts.assert_found(&format!("private{seq:05}"), any());
    }
}

#[test]
fn blocks_of_which_all_messages_were_removed_make_no_segment() {
    let mut texts = Texts::of(["one", "two"]);
    texts.remove(&[1, 2]);
    texts.close();
    texts.assert_sound();
    let segments: i64 =
        texts.index.query_row("SELECT count(*) FROM text_segment", (), |row| row.get(0)).unwrap();
    assert_eq!(segments, 0);
}
