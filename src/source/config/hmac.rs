//! The keys of a source of kind `hmac`, which has a scheme of its own.

use axum::http::HeaderName;

use super::super::Pointers;
use super::super::mac::{Encoding, Hash};
use super::super::scheme::{Form, Headers, Part, Scheme, TOLERANCE_SECS, Template};
use super::fields::Fields;

impl Fields<'_, '_, '_> {
    /// The scheme; `None` after noting what is wrong with it.
    pub(super) fn scheme(&mut self) -> Option<Scheme> {
        self.needed("header", "hmac needs the name of the header that holds the signature");
        let signature = self.header("header");
        let timestamp = self.header("timestamp_header");
        let prefix = self.text("prefix").map(|(prefix, _)| prefix.to_owned()).unwrap_or_default();
        let encoding = self.word("encoding", &[(Encoding::Hex, "hex"), (Encoding::Base64, "base64")]);
        let hashes = [(Hash::Sha256, "sha256"), (Hash::Sha512, "sha512"), (Hash::Sha1, "sha1")];
        let hash = self.word("hash", &hashes);
        let signed = self.parsed::<Template>("signed");
        let signed = signed.unwrap_or_else(|| Template(vec![Part::Body]));
        match (signed.has(&Part::Timestamp), self.has("timestamp_header")) {
            (true, false) => {
                self.reader
                    .missing(&self.at.clone(), "`signed` has {timestamp}, so `timestamp_header` is missing");
            }
            (false, true) => {
                let what = "`timestamp_header` is not signed: put {timestamp} into `signed`, such as \"{timestamp}.{body}\"";
                let at = self.text("timestamp_header").map_or(self.at.clone(), |(_, at)| at);
                self.reader.wrong(&at, what);
            }
            _ => {}
        }
        Some(Scheme {
            headers: vec![Headers { signature: signature?, timestamp, id: None }],
            form: Form::One { prefix },
            encoding: encoding.unwrap_or(Encoding::Hex),
            hash: hash.unwrap_or(Hash::Sha256),
            signed,
            tolerance_secs: TOLERANCE_SECS,
        })
    }

    fn header(&mut self, key: &'static str) -> Option<HeaderName> {
        let (text, at) = self.text(key)?;
        let name = HeaderName::from_bytes(text.as_bytes());
        name.map_err(|_| self.reader.wrong(&at, format!("`{key}` should be the name of a header"))).ok()
    }

    /// Where the fields of an event stand.
    pub(super) fn pointers(&mut self) -> Pointers {
        Pointers {
            key: self.parsed("key"),
            r#type: self.parsed("type"),
            from: self.parsed("from"),
            to: self.parsed("to"),
            ts: self.parsed("ts"),
            text: self.parsed("text"),
            thread: self.parsed("thread"),
        }
    }
}
