//! `SOURCES_FILE` and `SOURCES`.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use lyftr::config::ConfigErrors;
use lyftr::source::{Config, Outside, Provider};

use super::parse;

/// Two sources with every reference that they need.
const GOOD: &str = r#"
[[source]]
name = "shop-wa"
kind = "whatsapp"
secrets = [{ name = "2026-10", file = "/run/secrets/wa" }, { name = "2026-04", env = "WA_OLD" }]
verify_token = { env = "WA_VERIFY" }

[[source]]
name = "acme"
kind = "hmac"
secrets = [
    { name = "a", env = "WA_OLD" },
]
header = "X-Acme-Sign"
timestamp_header = "X-Acme-Time"
signed = "{timestamp}:{body}"
tolerance_secs = 120
max_body_bytes = 1_024
key = "/order/id"
"#;

const VARIABLES: &[(&str, &str)] =
    &[("WA_OLD", "the old one\n"), ("WA_VERIFY", "a token"), ("EMPTY", ""), ("BLANK", " \n")];

fn errors(text: &str) -> Vec<String> {
    match parse(text, VARIABLES, &[("/run/secrets/wa", b"a secret\n")]) {
        Ok(config) => panic!("{config:?}"),
        Err(ConfigErrors(errors)) => errors,
    }
}

#[test]
fn sources_are_read_with_their_secrets() {
    for (file, secret) in [
        (&b"a secret"[..], &b"a secret"[..]),
        (b"a secret\n", b"a secret"),
        (b"a secret\r\n", b"a secret"),
        // The last line end is cut, and no more.
        (b"a secret\n\n", b"a secret\n"),
        (b"a secret\r", b"a secret\r"),
        (b"\xff\n", b"\xff"),
    ] {
        let config = parse(GOOD, VARIABLES, &[("/run/secrets/wa", file)]).unwrap();
        let [shop, acme] = &config.sources[..] else { panic!("{config:?}") };
        assert_eq!(
            (shop.name.as_str(), shop.provider, shop.max_body_bytes),
            ("shop-wa", Provider::WhatsApp, 4 << 20)
        );
        assert_eq!((acme.name.as_str(), acme.provider, acme.max_body_bytes), ("acme", Provider::Hmac, 1024));
        assert_eq!((shop.scheme.tolerance_secs, acme.scheme.tolerance_secs), (300, 120));
        let secrets: Vec<_> = shop
            .secrets
            .iter()
            .map(|secret| match &secret.key {
                lyftr::source::Key::Shared(bytes) => (secret.name.as_str(), bytes.expose()),
                other @ lyftr::source::Key::Public(_) => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(secrets, [("2026-10", secret), ("2026-04", &b"the old one\n"[..])]);
        assert_eq!(shop.verify_token.as_ref().unwrap().expose(), b"a token");
        assert!(!format!("{config:?}").contains("old one"), "a secret is printed");
    }
    assert!(parse("", &[], &[]).unwrap().sources.is_empty());
}

#[test]
fn what_hardly_belongs_to_a_secret_is_warned_of() {
    let config = parse(GOOD, VARIABLES, &[("/run/secrets/wa", b"\"a secret\"")]).unwrap();
    assert_eq!(
        config.warnings,
        [
            "line 5: secret `2026-10` begins with a quotation mark, ends with a quotation mark",
            "line 5: secret `2026-10` is shorter than 24 bytes and may be guessed; `openssl rand -hex 32` makes a good one",
            "line 5: secret `2026-04` ends with a line feed",
            "line 5: secret `2026-04` is shorter than 24 bytes and may be guessed; `openssl rand -hex 32` makes a good one",
            "line 12: secret `a` ends with a line feed",
            "line 12: secret `a` is shorter than 24 bytes and may be guessed; `openssl rand -hex 32` makes a good one",
        ]
    );
}

#[test]
fn every_mistake_is_told_at_once_with_its_line() {
    let text = r#"title = "x"

[[source]]
name = "Shop"
kind = "whatsup"
color = 1
secrets = []

[[source]]
name = "webhook"
kind = "stripe"
secrets = [{ name = "a", env = "NONE" }, { name = "a", env = "WA_OLD" }, "hunter2"]
public_url = "https://a.test"
tolerance_secs = 0

[[source]]
name = "one"
kind = "slack"
secrets = [{ env = "WA_OLD" }, { name = "b" }, { name = "c", env = "WA_OLD", file = "/run/secrets/wa" }]
max_body_bytes = "4"

[[source]]
name = "one"
kind = "twilio"
secrets = [{ name = "b c", file = "/none" }, { name = "d", env = "EMPTY" }, { name = "e", env = "BLANK", value = "x" }]
verify_token = { env = "WA_VERIFY" }

[[source]]
kind = "hmac"
secrets = [{ name = "a", env = "WA_OLD" }]
key = "order"
from = 1
tolerance_secs = 5
hash = "md5"
signed = "{timestamp}{body}"
"#;
    assert_eq!(
        errors(text),
        [
            "line 1: unknown key `title`; there is only [[source]]",
            "line 4: `name` should be 1 to 40 lower-case letters, digits and hyphens",
            "line 5: `kind` should be one of whatsapp, standard-webhooks, stripe, github, slack, shopify, twilio, hmac",
            "line 6: unknown key `color`",
            "line 7: `secrets` should hold 1 to 16 secrets",
            "line 10: `name` is that of the built-in source `webhook`; choose another",
            "line 12: secret `a`: `env`: the variable that it names is not set",
            "line 12: `secrets` should be a list of { name = \"…\", file = \"…\" } and { name = \"…\", env = \"…\" }",
            "line 13: `public_url` is no key of a source of kind stripe",
            "line 14: `tolerance_secs` should be a whole number from 1 to 86400",
            "line 19: a secret has no `name`; metrics and log lines know it by that",
            "line 19: secret `b` has neither `env` nor `file`",
            "line 19: secret `c` has both `env` and `file`; one of them is enough",
            "line 20: `max_body_bytes` should be a whole number from 1 to 67108864",
            "line 22: `public_url` is missing; twilio signs the address that it sends to",
            "line 23: `one` is the name of the source of line 17 too",
            "line 25: the `name` of a secret should be 1 to 64 letters, digits, dots, hyphens and underscores",
            "line 25: a secret: `file`: cannot read the file that it names: entity not found",
            "line 25: secret `d`: `env`: the variable that it names is empty",
            "line 25: secret `e` has the unknown key `value`; there are only `env` and `file`, since a secret stands elsewhere",
            "line 25: secret `e`: `env`: the variable that it names holds nothing but blanks",
            "line 26: `verify_token` is no key of a source of kind twilio",
            "line 28: `name` is missing; each source has one",
            "line 28: `header` is missing; hmac needs the name of the header that holds the signature",
            "line 28: `signed` has {timestamp}, so `timestamp_header` is missing",
            "line 31: `key` should be a JSON pointer such as /order/id, in which ~1 stands for a slash and ~0 for a tilde",
            "line 32: `from` should be a text in quotation marks",
            "line 33: `tolerance_secs` needs a `timestamp_header`",
            "line 34: `hash` should be one of sha256, sha512, sha1",
        ]
    );
}

#[test]
fn two_secrets_of_one_name_and_a_time_that_is_not_signed_are_mistakes() {
    let text = r#"[[source]]
name = "a"
kind = "hmac"
secrets = [{ name = "x", env = "WA_OLD" }, { name = "x", env = "WA_VERIFY" }]
header = "not a name"
timestamp_header = "X-Time"
prefix = 1
"#;
    assert_eq!(
        errors(text),
        [
            "line 4: `secrets` has two of the name `x`",
            "line 5: `header` should be the name of a header",
            "line 6: `timestamp_header` is not signed: put {timestamp} into `signed`, such as \"{timestamp}.{body}\"",
            "line 7: `prefix` should be a text in quotation marks",
        ]
    );
}

#[test]
fn what_is_no_toml_is_told_with_the_rest() {
    let text =
        "[[source]]\nname = \"a\nkind = \"stripe\"\ncolor = 1\n\n[[source]]\nname = \"B\"\nname = \"c\"\n";
    let told = errors(text);
    let lines: Vec<_> = told.iter().map(|error| error.split(':').next().unwrap()).collect();
    assert!(lines.contains(&"line 2") && lines.contains(&"line 4") && lines.contains(&"line 8"), "{told:#?}");
    assert!(!told.iter().any(|error| error.contains("is missing")), "{told:#?}");
    for text in ["source = 1", "source = [1]", "[source]\nname = \"a\""] {
        assert_eq!(errors(text), ["line 1: `source` should be a list of tables: write [[source]]"]);
    }
}

#[test]
fn no_mistake_repeats_a_value() {
    let secret = "hunter2";
    let at = |line: &str| format!("[[source]]\nname = \"a\"\nkind = \"hmac\"\nheader = \"x\"\n{line}\n");
    for line in [
        "secrets = \"hunter2\"",
        "secrets = [\"hunter2\"]",
        "secrets = [{ name = \"a b hunter2\", env = \"hunter2\" }]",
        "secrets = [{ name = \"a\", env = \"hunter2\" }]",
        "secrets = [{ name = \"a\", file = \"hunter2\" }]",
        "secrets = [{ name = \"a\", env = \"WA_OLD\" }]\nverify_token = \"hunter2\"",
        "secrets = [{ name = \"a\", env = \"WA_OLD\" }]\nkey = \"hunter2\"\nhash = \"hunter2\"\nsigned = \"hunter2\"",
        "secrets = hunter2",
        "secrets = \"\"\"hunter2",
        "secrets = [{ name = \"a\", env = \"WA_OLD\" }]\ntolerance_secs = \"hunter2\"",
    ] {
        let told = errors(&at(line));
        assert!(!told.join("\n").contains(secret), "{told:#?}");
    }
}

#[test]
fn keys_of_standard_webhooks_are_checked() {
    let read = |secret: &str| {
        let text = "[[source]]\nname = \"a\"\nkind = \"standard-webhooks\"\nsecrets = [{ name = \"s\", env = \"S\" }]";
        parse(text, &[("S", secret)], &[]).map_err(|ConfigErrors(errors)| errors.join("\n"))
    };
    for good in [
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        "whpk_6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=",
    ] {
        assert!(read(good).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("whsec_", "should be whsec_ and Base64"),
        ("whsec_not base64", "should be whsec_ and Base64"),
        ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9=", "should be whsec_ and Base64"),
        ("whpk_AAEC", "should be whpk_ and the Base64 of an Ed25519 public key"),
        // The neutral point of the curve, with which anybody can sign.
        (
            "whpk_AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            "should be whpk_ and the Base64 of an Ed25519 public key",
        ),
        (
            "whsk_AAEC",
            "is a private key, which only the sender should have; Lyftr needs the public one, whpk_…",
        ),
    ] {
        assert_eq!(read(bad).unwrap_err(), format!("line 4: secret `s` {why}"), "{bad}");
    }
}

#[test]
fn the_text_comes_from_a_file_or_from_the_environment() {
    let read = |variables: &'static [(&str, &str)]| {
        let given =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| *value);
        let variable = |name: &str| given(name).map(OsString::from);
        let (path, text) = (given("SOURCES_FILE").unwrap_or(""), given("SOURCES").unwrap_or(""));
        let file = |path: &Path| match path.to_str() {
            Some("/etc/sources") => {
                Ok(b"[[source]]\nname = \"f\"\nkind = \"github\"\nsecrets = [{name = \"a\", env = \"S\"}]"
                    .to_vec())
            }
            Some("/etc/latin") => Ok(b"\xe9".to_vec()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        Config::read(path, text, Outside { variable: &variable, file: &file })
            .map(|config| {
                config.sources.iter().map(|source| source.name.as_str().to_owned()).collect::<Vec<_>>()
            })
            .map_err(|ConfigErrors(errors)| errors.join("\n"))
    };
    assert_eq!(read(&[]), Ok(vec![]));
    assert_eq!(read(&[("SOURCES", ""), ("SOURCES_FILE", "")]), Ok(vec![]));
    assert_eq!(read(&[("SOURCES_FILE", "/etc/sources"), ("S", "s")]), Ok(vec!["f".to_owned()]));
    assert_eq!(
        read(&[("SOURCES_FILE", "/etc/sources")]).unwrap_err(),
        "SOURCES_FILE, line 4: secret `a`: `env`: the variable that it names is not set"
    );
    assert_eq!(
        read(&[("SOURCES", "x = 1")]).unwrap_err(),
        "SOURCES, line 1: unknown key `x`; there is only [[source]]"
    );
    assert_eq!(
        read(&[("SOURCES", "x"), ("SOURCES_FILE", "y")]).unwrap_err(),
        "SOURCES and SOURCES_FILE are both set; set one of them"
    );
    assert_eq!(
        read(&[("SOURCES_FILE", "/etc/latin")]).unwrap_err(),
        "SOURCES_FILE should hold TOML in UTF-8"
    );
    let told = read(&[("SOURCES_FILE", "/none")]).unwrap_err();
    assert!(told.starts_with("SOURCES_FILE: cannot read the file that it names"), "{told}");
}
