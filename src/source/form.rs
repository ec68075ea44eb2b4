//! Forms: `application/x-www-form-urlencoded`, in bodies and in query strings.

use percent_encoding::percent_decode;

/// Maximum number of fields of a form. Beyond it a body is none: reading it would take many times its own size.
const FIELDS_MAX: usize = 1_000;

/// The fields of a form in their order: names and values, decoded. They need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form(Vec<(Vec<u8>, Vec<u8>)>);

/// A field stands more than once where one is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repeated;

impl Form {
    /// Reads a form; `None` if it has too many fields.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let fields = || text.split(|byte| *byte == b'&').filter(|field| !field.is_empty());
        if fields().nth(FIELDS_MAX).is_some() {
            return None;
        }
        let decoded = fields().map(|field| {
            let at = field.iter().position(|byte| *byte == b'=').unwrap_or(field.len());
            let (name, value) = field.split_at_checked(at).unwrap_or((field, &[]));
            (decode(name), decode(value.get(1..).unwrap_or_default()))
        });
        Some(Self(decoded.collect()))
    }

    /// Reads the query string of a request target.
    pub(crate) fn of_target(target: &str) -> Option<Self> {
        Self::parse(target.split_once('?').map_or("", |(_, query)| query).as_bytes())
    }

    /// The value of a field; `None` if it is absent.
    pub(crate) fn only(&self, name: &str) -> Result<Option<&[u8]>, Repeated> {
        let mut values = self.0.iter().filter(|(given, _)| given == name.as_bytes());
        match (values.next(), values.next()) {
            (first, None) => Ok(first.map(|(_, value)| value.as_slice())),
            _ => Err(Repeated),
        }
    }

    /// The fields in the order in which Twilio signs them: sorted by name, the values of a repeated name sorted too and each
    /// but once.
    pub(crate) fn sorted(&self) -> Vec<&[u8]> {
        let mut fields: Vec<_> = self.0.iter().collect();
        fields.sort_unstable();
        fields.dedup();
        fields.into_iter().flat_map(|(name, value)| [name.as_slice(), value]).collect()
    }

    /// The fields as a JSON object: strings, lists where a name repeats, and `{"base64":"…"}` for what is not UTF-8.
    pub(crate) fn json(&self) -> String {
        use serde_json::Value;
        let mut object = serde_json::Map::new();
        for (name, value) in &self.0 {
            let value = match std::str::from_utf8(value) {
                Ok(text) => Value::from(text),
                Err(_) => super::payload::base64_object(value),
            };
            match object.entry(String::from_utf8_lossy(name)) {
                serde_json::map::Entry::Vacant(entry) => {
                    entry.insert(Value::Array(vec![value]));
                }
                serde_json::map::Entry::Occupied(mut entry) => {
                    entry.get_mut().as_array_mut().into_iter().for_each(|values| values.push(value.clone()));
                }
            }
        }
        for values in object.values_mut() {
            let only = values.as_array_mut().filter(|values| values.len() == 1).and_then(Vec::pop);
            *values = only.unwrap_or_else(|| values.take());
        }
        Value::Object(object).to_string()
    }
}

/// A plus is a space; `%` and two digits are a byte, and stand for themselves if they are no digits.
fn decode(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_decoded_and_kept_in_their_order() {
        let form = Form::parse(b"b=1+2&a=%2B%zz%&&c&b=&=x&d=1=2").unwrap();
        assert_eq!(form.json(), r#"{"b":["1 2",""],"a":"+%zz%","c":"","":"x","d":"1=2"}"#);
        assert_eq!(form.only("a"), Ok(Some(&b"+%zz%"[..])));
        assert_eq!(
            (form.only("c"), form.only("z"), form.only("b")),
            (Ok(Some(&b""[..])), Ok(None), Err(Repeated))
        );
        assert_eq!(Form::parse(b"").unwrap().json(), "{}");
        assert_eq!(Form::parse(b"a=%ff").unwrap().json(), r#"{"a":{"base64":"/w=="}}"#);
    }

    #[test]
    fn twilio_signs_each_value_once_in_the_order_of_the_names() {
        let form = Form::parse(b"b=2&a=1&b=1&b=2&ab=&B=3").unwrap();
        assert_eq!(form.sorted().concat(), b"B3a1abb1b2");
    }

    #[test]
    fn a_flood_of_fields_is_no_form() {
        assert!(Form::parse("a&".repeat(FIELDS_MAX).as_bytes()).is_some());
        assert!(Form::parse("a&".repeat(FIELDS_MAX + 1).as_bytes()).is_none());
        assert!(Form::parse(&vec![b'&'; 4 << 20]).is_some());
    }
}
