//! What a verified body holds: JSON, a form, or something else; and the `data` of an event made of it.

use std::borrow::Cow;

use serde_json::Value;

use super::form::Form;
use super::json::{Json, Unreadable};
use super::mac::Encoding;
use crate::event::Data;

/// A body whose signature is verified.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    /// One JSON value, and the whole body with any blanks around it.
    Json(Json<'a>, &'a str),
    /// A form, and its fields as a JSON object.
    Form(Form, String),
    /// Something else, and why it is no JSON.
    Other(&'a [u8], Unreadable),
}

impl<'a> Payload<'a> {
    /// Reads a body. What begins as a JSON object or list and is JSON counts as that whatever the request calls it, since
    /// `Content-Type` is not signed and some senders leave it at that of a form.
    pub(crate) fn read(body: &'a [u8], is_form: bool) -> Self {
        let begins_as_json = matches!(body.trim_ascii_start(), [b'{' | b'[', ..]);
        if is_form && !begins_as_json {
            return Self::of_form(body).unwrap_or(Self::Other(body, Unreadable::NotJson));
        }
        match Self::text(body).and_then(|whole| Ok((Json::of(whole)?, whole))) {
            Ok((json, whole)) => Self::Json(json, whole),
            Err(why) => is_form.then(|| Self::of_form(body)).flatten().unwrap_or(Self::Other(body, why)),
        }
    }

    fn text(body: &[u8]) -> Result<&str, Unreadable> {
        std::str::from_utf8(body).map_err(|_| Unreadable::NotUtf8)
    }

    fn of_form(body: &[u8]) -> Option<Self> {
        let form = Form::parse(body)?;
        let json = form.json();
        Some(Self::Form(form, json))
    }

    /// The JSON value, or the fields of the form as an object.
    ///
    /// # Errors
    /// Why it is no JSON.
    pub(crate) fn json(&self) -> Result<Json<'_>, Unreadable> {
        match self {
            Self::Json(json, _) => Ok(*json),
            Self::Form(_, json) => Json::of(json),
            Self::Other(_, why) => Err(*why),
        }
    }

    /// What the provider sent, untouched where it is JSON.
    pub(crate) fn data(&self) -> Data {
        match self {
            Self::Json(_, whole) => Data::from_json(*whole),
            Self::Form(_, json) => Data::from_json(json.as_str()),
            Self::Other(body, _) => data_of(body),
        }
    }
}

/// The `data` of bytes that are no JSON: a string, or `{"base64":"…"}` where they are not UTF-8.
pub(crate) fn data_of(bytes: &[u8]) -> Data {
    let value = std::str::from_utf8(bytes).map_or_else(|_| base64_object(bytes), Value::from);
    Data::from_json(value.to_string())
}

/// `{"base64":"…"}`.
pub(super) fn base64_object(bytes: &[u8]) -> Value {
    Value::Object([("base64".to_owned(), Value::from(Encoding::Base64.encode(bytes)))].into_iter().collect())
}

/// Whether a `Content-Type` is that of a form.
pub(crate) fn is_form(content_type: Option<&Cow<'_, str>>) -> bool {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(body: &[u8], is_form: bool) -> String {
        Payload::read(body, is_form).data().as_str().to_owned()
    }

    #[test]
    fn data_is_what_was_sent() {
        for (body, is_form, expected) in [
            (
                &b"{\"n\":1e400,\r\n \"x\":\"\\u00e9\"} \n"[..],
                false,
                "{\"n\":1e400,\r\n \"x\":\"\\u00e9\"} \n",
            ),
            (b" {\"a\":\"\\ud800\"}", true, " {\"a\":\"\\ud800\"}"),
            (b"a=1&b=%2B+&a=2", true, r#"{"a":["1","2"],"b":"+ "}"#),
            (b"{a=1", true, r#"{"{a":"1"}"#),
            (b"a=1", false, "\"a=1\""),
            (b"", false, "\"\""),
            (b"", true, "{}"),
            (b"12", false, "12"),
            (b"a\0\"\n", false, r#""a\u0000\"\n""#),
            (b"\xff\x00", false, r#"{"base64":"/wA="}"#),
        ] {
            assert_eq!(data(body, is_form), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_form_is_known_by_its_media_type() {
        for (content_type, expected) in [
            (Some("application/x-www-form-urlencoded"), true),
            (Some("Application/X-WWW-Form-Urlencoded ; charset=UTF-8"), true),
            (Some("application/json"), false),
            (Some("multipart/form-data; boundary=application/x-www-form-urlencoded"), false),
            (None, false),
        ] {
            assert_eq!(is_form(content_type.map(Cow::from).as_ref()), expected, "{content_type:?}");
        }
    }
}
