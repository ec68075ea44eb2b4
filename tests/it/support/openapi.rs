//! Holds answers to docs/openapi.json, read as strictly as its `info.description` says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::client::Reply;

/// The document.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("docs/openapi.json is JSON")
    })
}

/// Checks an answer to a request with this method and target.
///
/// # Panics
/// If the answer is not documented, or not as documented.
#[track_caller]
pub(crate) fn check(method: &str, target: &str, reply: &Reply) {
    if let Err(why) = conforms(method, target, reply) {
        panic!(
            "{method} {target} is not answered as docs/openapi.json says: {why}\n{reply:#?}\n{}",
            reply.line()
        );
    }
}

/// Whether a value is valid by a schema of the document, `{"$ref": …}` included.
pub(crate) fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    validator(schema).validate(value).map_err(|error| format!("{}: {error}", error.instance_path()))?;
    in_order(schema, value)
}

/// What a `$ref` leads to.
pub(crate) fn resolve(value: &'static Value) -> &'static Value {
    match value.get("$ref").and_then(Value::as_str) {
        Some(place) => resolve(at(place)),
        None => value,
    }
}

fn at(place: &str) -> &'static Value {
    let pointer = place.strip_prefix('#').expect("a $ref into the document itself");
    document().pointer(pointer).unwrap_or_else(|| panic!("{place} leads nowhere"))
}

fn conforms(method: &str, target: &str, reply: &Reply) -> Result<(), String> {
    let path = path_of(target);
    let responses = responses(method, path);
    let response = responses
        .get(reply.status.to_string())
        .map(resolve)
        .ok_or_else(|| format!("status {} is not listed", reply.status))?;
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        check_header(reply, name, resolve(header)).map_err(|why| format!("header {name}: {why}"))?;
    }
    if reply.status == 204 {
        let is_empty = reply.body.is_empty() && response.get("content").is_none();
        return if is_empty { Ok(()) } else { Err("a body that says that there is none".into()) };
    }
    let contents = response["content"].as_object().ok_or("the document says nothing of a body")?;
    let media = reply.header("content-type").unwrap_or_default();
    let content =
        contents.get(media).ok_or_else(|| format!("Content-Type is none of {:?}", contents.keys()))?;
    if method == "HEAD" {
        return if reply.body.is_empty() { Ok(()) } else { Err("a body in answer to HEAD".into()) };
    }
    let body = match media {
        // What a provider sent stands there as it was sent.
        "application/json" if path.starts_with("/events") && reply.status == 200 => reply.json(),
        "application/json" => json_of(reply)?,
        _ => Value::from(reply.text()),
    };
    validate(&content["schema"], &body)
}

/// The responses that a request may get. A path that is not listed, and a method that its path does not list,
/// have those of `x-any-path`.
fn responses(method: &str, path: &str) -> &'static Value {
    let paths = document()["paths"].as_object().expect("paths");
    let item = paths
        .get(path)
        .or_else(|| paths.iter().find(|(template, _)| is_of(path, template)).map(|(_, item)| item));
    let operation = item.and_then(|item| item.get(method.to_ascii_lowercase()));
    &operation.filter(|_| method == method.to_ascii_uppercase()).unwrap_or(&document()["x-any-path"])["responses"]
}

/// Whether a path has the form of a template such as `/events/{position}`.
fn is_of(path: &str, template: &str) -> bool {
    let (segments, templates) = (path.split('/'), template.split('/'));
    let fits = |segment: &str, template: &str| {
        if template.starts_with('{') { !segment.is_empty() } else { segment == template }
    };
    segments.clone().count() == templates.clone().count()
        && segments.zip(templates).all(|(segment, template)| fits(segment, template))
}

/// The path of a target in origin form or absolute form.
fn path_of(target: &str) -> &str {
    let after_host =
        target.strip_prefix("http://").and_then(|rest| rest.find('/').map(|slash| &rest[slash..]));
    after_host.unwrap_or(target).split('?').next().unwrap_or_default()
}

fn check_header(reply: &Reply, name: &str, header: &Value) -> Result<(), String> {
    match reply.header(&name.to_ascii_lowercase()) {
        Some(value) => validate(&header["schema"], &value.into()),
        None if header["required"] == true => Err("is missing".into()),
        None => Ok(()),
    }
}

/// The body, which has no spaces between tokens and no key twice: it can be written back as it is.
fn json_of(reply: &Reply) -> Result<Value, String> {
    let value: Value =
        serde_json::from_slice(&reply.body).map_err(|error| format!("the body is no JSON: {error}"))?;
    if value.to_string().as_bytes() == reply.body {
        Ok(value)
    } else {
        Err("the body has spaces between tokens, or a key twice".into())
    }
}

/// The validator of a schema, made at its first use: each test is a process of its own and needs but a few.
fn validator(schema: &Value) -> Arc<Validator> {
    static VALIDATORS: OnceLock<Mutex<HashMap<String, Arc<Validator>>>> = OnceLock::new();
    let mut validators =
        VALIDATORS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let made = validators.entry(schema.to_string()).or_insert_with(|| {
        let whole = json!({"allOf": [schema], "components": document()["components"]});
        Arc::new(jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("{schema}: {error}")))
    });
    Arc::clone(made)
}

/// Whether the keys of every object come in the order of its schema's `properties`.
fn in_order(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(place) = schema.get("$ref").and_then(Value::as_str) {
        return in_order(at(place), value);
    }
    for choice in ["oneOf", "anyOf"] {
        let choices = schema[choice].as_array().map(Vec::as_slice).unwrap_or_default();
        if !choices.is_empty() && !choices.iter().any(|choice| in_order(choice, value).is_ok()) {
            return Err(format!("keys of {value} are in no order of {choice}"));
        }
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| in_order(&schema["items"], item)),
        Value::Object(members) => {
            let Some(properties) = schema["properties"].as_object() else { return Ok(()) };
            let place = |key: &String| properties.keys().position(|known| known == key);
            let places: Vec<_> = members.keys().filter_map(place).collect();
            if !places.is_sorted() {
                return Err(format!("the keys of {value} are not in the order of {:?}", properties.keys()));
            }
            members
                .iter()
                .filter_map(|(key, member)| Some((properties.get(key)?, member)))
                .try_for_each(|(schema, member)| in_order(schema, member))
        }
        _ => Ok(()),
    }
}

#[test]
fn an_answer_that_is_not_documented_is_noticed() {
    let good = Reply {
        status: 200,
        headers: [("content-type", "application/json"), ("x-request-id", "a")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        body: br#"{"status":"ok"}"#.to_vec(),
        continues: 0,
    };
    assert_eq!(conforms("POST", "/webhook?a=b", &good), Ok(()));
    let changed = |change: fn(&mut Reply)| {
        let mut reply = good.clone();
        change(&mut reply);
        conforms("POST", "/webhook", &reply)
    };
    assert!(changed(|reply| reply.status = 201).is_err());
    assert!(changed(|reply| reply.headers[0].1.push_str("; charset=utf-8")).is_err());
    assert!(changed(|reply| drop(reply.headers.pop())).is_err());
    assert!(changed(|reply| reply.headers[1].1 = "a b".into()).is_err());
    assert!(changed(|reply| reply.body = br#"{"status":"fine"}"#.to_vec()).is_err());
    assert!(changed(|reply| reply.body = br#"{"status": "ok"}"#.to_vec()).is_err());
    assert!(changed(|reply| reply.body = br#"{"status":"ok","status":"ok"}"#.to_vec()).is_err());
    assert!(conforms("GET", "/webhook", &good).is_err());
    assert!(conforms("post", "/webhook", &good).is_err());
    assert!(conforms("HEAD", "/health/live", &good).is_err());
    let error = json!({"detail": [{"loc": ["query", "q"], "type": "string_too_long", "msg": "m", "input": "x".repeat(4097)}]});
    assert!(
        validate(&json!({"$ref": "#/components/schemas/InvalidQuery"}), &error).is_err(),
        "order of keys"
    );
}
