//! Sessions of the page: whoever has shown the read token once holds a cookie that stands for it for a while.
//!
//! A session is kept nowhere. Its cookie says when it ends, signed with a key that is derived from the read token: it is valid
//! on every replica, and void when the token changes. Pure: no I/O, no clock.

use std::fmt;
use std::time::Duration;

use crate::signature::{Key, Signature, same_secret};

/// How long a session lasts.
pub(crate) const LIFETIME: Duration = Duration::from_hours(12);
/// What the key of the cookies is derived from the token by, so that it signs nothing else.
const PURPOSE: &[u8] = b"lyftr session 1";

/// The sessions of one read token.
#[derive(Clone)]
pub(crate) struct Sessions {
    token: Vec<u8>,
    key: Key,
}

impl Sessions {
    /// The sessions of a read token.
    pub(crate) fn new(token: &[u8]) -> Self {
        let derived = Key::new(token).sign(PURPOSE);
        Self { token: token.to_owned(), key: Key::new(derived.as_bytes()) }
    }

    /// Begins a session at this Unix time, in seconds; returns the value of its cookie. `None` if what was given is not the
    /// token.
    pub(crate) fn begin(&self, given: &[u8], now_s: i64) -> Option<String> {
        let lifetime_s = i64::try_from(LIFETIME.as_secs()).unwrap_or(i64::MAX);
        let end = now_s.saturating_add(lifetime_s).to_string();
        same_secret(given, &self.token).then(|| format!("{end}.{}", self.key.sign(end.as_bytes())))
    }

    /// The end of the session whose cookie has this value, as Unix time in seconds; `None` if the cookie is not one of these
    /// sessions, or its session has ended.
    pub(crate) fn end_of(&self, cookie: &[u8], now_s: i64) -> Option<i64> {
        let dot = cookie.iter().position(|byte| *byte == b'.')?;
        let (end, signature) = (cookie.get(..dot)?, cookie.get(dot + 1..)?);
        // Nothing is made of the time before its signature is verified.
        self.key.verify(end, &Signature::parse(signature).ok()?).ok()?;
        let end: i64 = std::str::from_utf8(end).ok()?.parse().ok()?;
        (end > now_s).then_some(end)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;
    const HOURS_12: i64 = 12 * 3_600;

    fn cookie(sessions: &Sessions) -> String {
        sessions.begin(b"token", NOW).unwrap()
    }

    #[test]
    fn a_session_begins_with_the_token_and_lasts_twelve_hours_on_every_replica() {
        let (one, other) = (Sessions::new(b"token"), Sessions::new(b"token"));
        assert_eq!(other.end_of(cookie(&one).as_bytes(), NOW), Some(NOW + HOURS_12));
        assert_eq!(other.end_of(cookie(&one).as_bytes(), NOW + HOURS_12 - 1), Some(NOW + HOURS_12));
        assert_eq!(other.end_of(cookie(&one).as_bytes(), NOW + HOURS_12), None);
        for wrong in [&b""[..], b"toke", b"tokens", b"Token"] {
            assert_eq!(one.begin(wrong, NOW), None);
        }
    }

    #[test]
    fn a_cookie_is_void_when_the_token_changes() {
        let cookie = cookie(&Sessions::new(b"token"));
        assert_eq!(Sessions::new(b"another token").end_of(cookie.as_bytes(), NOW), None);
    }

    #[test]
    fn a_cookie_is_not_signed_with_the_token_itself() {
        let end = (NOW + HOURS_12).to_string();
        let signed = format!("{end}.{}", Key::new(b"token").sign(end.as_bytes()));
        assert_eq!(Sessions::new(b"token").end_of(signed.as_bytes(), NOW), None);
    }

    proptest! {
        #[test]
        fn no_other_cookie_is_one(given in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..75, byte: u8) {
            let sessions = Sessions::new(b"token");
            prop_assert_eq!(sessions.end_of(&given, NOW), None);
            let mut changed = cookie(&sessions).into_bytes();
            let at = at % changed.len();
            // Hexadecimal digits count in either case.
            prop_assume!(!changed[at].eq_ignore_ascii_case(&byte));
            changed[at] = byte;
            prop_assert_eq!(sessions.end_of(&changed, NOW), None);
        }
    }
}
