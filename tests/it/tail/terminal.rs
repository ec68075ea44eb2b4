//! What a person sees.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{lines, tail};
use crate::support::fake::{Fake, block};

/// A terminal of so many columns: what is printed there, and what prints.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let printer = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, rustix::fs::Mode::empty()).unwrap();
    tcsetwinsize(&printer, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    (screen.into(), printer)
}

/// Everything on the screen when the program has ended, with its line ends as they were printed.
fn screen(fake: &Fake, columns: u16, arguments: &[&str]) -> String {
    let (mut screen, printer) = terminal(columns);
    let process =
        tail(fake, &[&["--from", "beginning", "-n", "1"], arguments].concat()).stdout(printer).spawn();
    let mut bytes = Vec::new();
    // The end of a terminal, which nobody has open any more, is an error.
    drop(screen.read_to_end(&mut bytes));
    let finished = process.finish();
    assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

#[test]
fn a_person_sees_a_line_that_ends_where_the_terminal_does_and_moves_nothing_on_it() {
    let fake = Fake::start(|_, _, answer| {
        answer.stream();
        answer.chunk(&block(1).replace("text 1", "He\\nsaid \\u001b[2J\\u202e 日本語"));
        answer.hold();
    });
    let whole = "2125-01-15T10:00:00.000Z  webhook  message  +1 → +2  He␊said ␛[2J\\u{202e} 日本語\n";
    assert_eq!(screen(&fake, 200, &[]), whole);
    assert_eq!(screen(&fake, 80, &[]), whole);
    assert_eq!(screen(&fake, 79, &[]), whole.replace("語", "…"));
    assert_eq!(screen(&fake, 78, &[]), whole.replace("本語", "…"));
    assert_eq!(screen(&fake, 30, &[]), "2125-01-15T10:00:00.000Z  web…\n");
}

#[test]
fn json_is_printed_on_a_terminal_where_that_is_wanted() {
    let fake = Fake::start(|_, _, answer| {
        answer.stream();
        answer.chunk(&block(1));
        answer.hold();
    });
    assert_eq!(screen(&fake, 30, &["--json"]), lines(1..=1));
}
