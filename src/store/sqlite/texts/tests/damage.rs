//! Damage is an error, or makes no difference; it is never a wrong result and never a panic.

use std::time::Duration;

use super::*;

/// A segment of two blocks, one of them long, and one of one block.
fn small() -> Texts {
    let mut texts = Texts::of(["quokka and wombat".to_owned(), "wombat".to_owned(), "emu ".repeat(1_100)]);
    texts.close();
    texts.push(Message { seq: 9, moment: at(9), sender: 4, recipient: 5, folded: "wombat again".to_owned() });
    texts.close();
    // Nobody overwrites the file, so a block stays as it is however long it is read again.
    texts.file.pause = Duration::ZERO;
    texts
}

/// Whether the damage was noticed. If not, everything has to be as it should be.
fn is_noticed(texts: &Texts, what: &str) -> bool {
    let mut noticed = 0;
    for needle in ["wombat", "w"] {
        match texts.search(needle, any()) {
            Ok(found) => assert_eq!(found, texts.expected(needle, &any()), "{what}: {needle}"),
            Err(error) => noticed += usize::from(is_damage(&error, what)),
        }
    }
    match texts.check() {
        Ok(all) => {
            assert_eq!(noticed, 0, "{what}: the check did not notice it");
            let texts = texts.model.iter().map(|message| (message.seq, message.folded.clone()));
            assert_eq!(all, texts.collect::<Vec<_>>(), "{what}");
            false
        }
        Err(error) => is_damage(&error, what),
    }
}

fn is_damage(error: &Error, what: &str) -> bool {
    assert!(matches!(error, Error::Damaged(_)), "{what}: {error}");
    true
}

#[test]
fn a_flipped_bit_anywhere_in_the_file_is_noticed_or_makes_no_difference() {
    let texts = small();
    let intact = std::fs::read(texts.path()).unwrap();
    assert!(!is_noticed(&texts, "intact"));
    let mut noticed = 0;
    for place in 0..intact.len() {
        // Of the long text, and of the zeros behind blocks, a few bytes will do.
        if place % 4_096 > 120 && place % 97 != 0 {
            continue;
        }
        let mut damaged = intact.clone();
        damaged[place] ^= 1 << (place % 8);
        std::fs::write(texts.path(), &damaged).unwrap();
        noticed += usize::from(is_noticed(&texts, &format!("byte {place}")));
    }
    assert!(noticed > 180, "{noticed}");
}

#[test]
fn bytes_that_lie_are_no_panic() {
    let texts = small();
    let intact = std::fs::read(texts.path()).unwrap();
    let mut rng = fastrand::Rng::with_seed(5);
    for round in 0..400 {
        let mut damaged = intact.clone();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..160);
            damaged[place] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff, rng.clone().u8(..)]).unwrap();
        }
        // A CRC that is right, as if the damaged bytes had been written.
        let length = u32::from_le_bytes(damaged[4..8].try_into().unwrap());
        let Some(rest) = damaged.get(4..usize::try_from(length).unwrap()) else { continue };
        let crc = crc32fast::hash(rest);
        damaged[..4].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(texts.path(), &damaged).unwrap();
        for needle in ["wombat", "w", ""] {
            if let Err(error) = texts.search(needle, any()) {
                is_damage(&error, &format!("round {round}"));
            }
        }
        if let Err(error) = texts.check() {
            is_damage(&error, &format!("round {round}"));
        }
    }
}

#[test]
fn a_file_that_was_cut_is_noticed() {
    let texts = small();
    let length = std::fs::metadata(texts.path()).unwrap().len();
    for cut in [1, 4_095, 4_096, 4_097, length - 1, length] {
        texts.file.file.set_len(length - cut).unwrap();
        is_damage(&texts.search("wombat", any()).unwrap_err(), "search");
        is_damage(&texts.check().unwrap_err(), "check");
        is_damage(&TextFile::open(&texts.path(), &texts.index).unwrap_err(), "start");
    }
}

#[test]
fn pages_of_zeros_are_noticed() {
    let texts = small();
    let length = std::fs::metadata(texts.path()).unwrap().len();
    texts.file.file.set_len(0).unwrap();
    texts.file.file.set_len(length).unwrap();
    is_damage(&texts.search("wombat", any()).unwrap_err(), "search");
    is_damage(&texts.check().unwrap_err(), "check");
}

#[test]
fn pages_of_another_place_are_noticed() {
    let texts = small();
    let mut bytes = std::fs::read(texts.path()).unwrap();
    let last = bytes.len() - 4_096;
    bytes.copy_within(last.., 0);
    std::fs::write(texts.path(), &bytes).unwrap();
    is_damage(&texts.search("wombat", any()).unwrap_err(), "search");
    is_damage(&texts.check().unwrap_err(), "check");
}

#[test]
fn a_list_that_has_changed_is_noticed() {
    let texts = small();
    let rows: Vec<(i64, Vec<u8>)> = texts
        .index
        .prepare("SELECT id, lists FROM text_list")
        .unwrap()
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let set = |id: i64, lists: &[u8]| {
        texts.index.execute("UPDATE text_list SET lists = ?2 WHERE id = ?1", (id, lists)).unwrap();
    };
    for (id, lists) in &rows {
        for place in (0..lists.len()).step_by(151).chain([1, 4, lists.len() - 1]) {
            let mut damaged = lists.clone();
            damaged[place] ^= 1;
            set(*id, &damaged);
            is_damage(&texts.check().unwrap_err(), "check");
            is_noticed(&texts, &format!("row {id}"));
        }
        set(*id, &rows[0].1[..lists.len().min(3)]);
        is_damage(&texts.check().unwrap_err(), "a short row");
        is_noticed(&texts, "a short row");
        texts.index.execute("DELETE FROM text_list WHERE id = ?1", [id]).unwrap();
        is_damage(&texts.check().unwrap_err(), "a missing row");
        is_noticed(&texts, "a missing row");
        texts.index.execute("INSERT INTO text_list VALUES (?1, ?2)", (id, lists)).unwrap();
    }
    assert!(rows.len() > 4 && !is_noticed(&texts, "intact again"));
}

#[test]
fn a_row_of_a_segment_that_has_changed_is_noticed() {
    let texts = small();
    let columns = texts.index.prepare("SELECT * FROM text_segment").unwrap();
    let columns: Vec<_> = columns.column_names().map(ToString::to_string).collect();
    assert_eq!(columns.len(), 11);
    for column in &columns {
        for value in [0, -1, 3, 1 << 20, i64::MIN] {
            texts.index.execute_batch("SAVEPOINT before").unwrap();
            let change = format!("UPDATE text_segment SET {column} = ?1 WHERE number = 2 AND {column} <> ?1");
            if texts.index.execute(&change, [value]).unwrap() == 1 {
                assert!(is_noticed(&texts, &format!("{column} = {value}")));
                is_damage(&TextFile::open(&texts.path(), &texts.index).unwrap_err(), column);
            }
            texts.index.execute_batch("ROLLBACK TO before; RELEASE before").unwrap();
        }
    }
    texts.index.execute("DELETE FROM text_segment WHERE number = 1", ()).unwrap();
    assert!(is_noticed(&texts, "a missing row"));
}
