//! Whether an object is what a CRD's schema says, as the API server judges it at a server-side apply: fields that
//! the schema does not have are refused. Rules in CEL are left to a real API server.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use regex::Regex;
use serde_json::{Map, Value};

/// What is wrong with an object: the field and why.
pub(super) fn faults(schema: &Value, object: &Value) -> Vec<String> {
    let mut judge = Judge::default();
    judge.value(schema, object, "", true);
    judge.faults
}

#[derive(Default)]
struct Judge {
    faults: Vec<String>,
    patterns: HashMap<String, Regex>,
}

impl Judge {
    fn fault(&mut self, at: &str, why: impl Into<String>) {
        self.faults.push(format!("{at}: {}", why.into()));
    }

    /// `is_whole`: unlike in `anyOf` and the like, the schema names every field.
    fn value(&mut self, schema: &Value, value: &Value, at: &str, is_whole: bool) {
        self.kind(schema, value, at);
        let listed = schema["enum"].as_array();
        if listed.is_some_and(|list| !list.contains(value)) {
            self.fault(at, format!("{value} is none of {}", schema["enum"]));
        }
        match value {
            Value::Object(fields) => self.object(schema, fields, at, is_whole),
            Value::Array(items) => self.array(schema, items, at, is_whole),
            Value::String(text) => self.text(schema, text, at),
            Value::Number(number) => {
                let number = number.as_f64().unwrap();
                if schema["minimum"].as_f64().is_some_and(|least| number < least)
                    || schema["maximum"].as_f64().is_some_and(|most| number > most)
                {
                    self.fault(at, format!("{number} is out of bounds"));
                }
            }
            Value::Bool(_) | Value::Null => {}
        }
        self.combined(schema, value, at);
    }

    fn kind(&mut self, schema: &Value, value: &Value, at: &str) {
        let good = match schema["type"].as_str() {
            None if schema["x-kubernetes-int-or-string"] == true => {
                value.is_i64() || value.is_string()
            }
            None => true,
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some(other) => panic!("{at}: type {other}"),
        };
        if !good {
            self.fault(at, format!("{value} is no {}", schema["type"]));
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, at: &str, is_whole: bool) {
        let known = |name: &str| schema["properties"].get(name);
        for name in schema["required"].as_array().into_iter().flatten().flat_map(Value::as_str) {
            let has_default = known(name).is_some_and(|field| !field["default"].is_null());
            if !fields.contains_key(name) && !has_default {
                self.fault(at, format!("{name} is missing"));
            }
        }
        self.size(schema, fields.len(), ["minProperties", "maxProperties"], at);
        let is_free = schema["x-kubernetes-preserve-unknown-fields"] == true || at == "/metadata";
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            match known(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => self.value(schema, field, &at, is_whole),
                None if is_whole && !is_free => self.fault(&at, "is no field"),
                None => {}
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], at: &str, is_whole: bool) {
        self.size(schema, items.len(), ["minItems", "maxItems"], at);
        let keys: Vec<_> =
            schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().collect();
        let key = |item: &Value| match &schema["x-kubernetes-list-type"] {
            Value::String(kind) if kind == "set" => Some(item.to_string()),
            Value::String(kind) if kind == "map" => {
                let parts = keys.iter().map(|key| item[key.as_str().unwrap()].to_string());
                Some(parts.collect::<Vec<_>>().join(" "))
            }
            _ => None,
        };
        let mut seen = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{at}/{index}");
            if let Some(key) = key(item) {
                if seen.contains(&key) {
                    self.fault(&at, format!("{key} is there twice"));
                }
                seen.push(key);
            }
            if let Some(schema) = schema.get("items") {
                self.value(schema, item, &at, is_whole);
            }
        }
    }

    fn text(&mut self, schema: &Value, text: &str, at: &str) {
        self.size(schema, text.chars().count(), ["minLength", "maxLength"], at);
        if let Some(pattern) = schema["pattern"].as_str() {
            let made = || Regex::new(pattern).unwrap();
            if !self.patterns.entry(pattern.to_owned()).or_insert_with(made).is_match(text) {
                self.fault(at, format!("{text:?} does not match {pattern}"));
            }
        }
        let good = match schema["format"].as_str() {
            Some("ipv4") => text.parse::<Ipv4Addr>().is_ok(),
            Some("ipv6") => text.parse::<Ipv6Addr>().is_ok(),
            _ => true,
        };
        if !good {
            self.fault(at, format!("{text:?} is no {}", schema["format"]));
        }
    }

    fn size(&mut self, schema: &Value, size: usize, [least, most]: [&str; 2], at: &str) {
        let bound = |name: &str| schema[name].as_u64().map(|bound| usize::try_from(bound).unwrap());
        if bound(least).is_some_and(|least| size < least)
            || bound(most).is_some_and(|most| size > most)
        {
            self.fault(at, format!("{size} is not within {least} and {most}"));
        }
    }

    fn combined(&mut self, schema: &Value, value: &Value, at: &str) {
        let mut agrees = |schema: &Value| {
            let before = self.faults.len();
            self.value(schema, value, at, false);
            let agrees = self.faults.len() == before;
            self.faults.truncate(before);
            agrees
        };
        let mut agreeing = |name: &str| {
            let list = schema[name].as_array()?;
            Some((list.iter().filter(|schema| agrees(schema)).count(), list.len()))
        };
        let all = agreeing("allOf").is_none_or(|(agreeing, of)| agreeing == of);
        let any = agreeing("anyOf").is_none_or(|(agreeing, _)| agreeing > 0);
        let one = agreeing("oneOf").is_none_or(|(agreeing, _)| agreeing == 1);
        let not = schema.get("not").is_none_or(|schema| !agrees(schema));
        for (name, good) in [("allOf", all), ("anyOf", any), ("oneOf", one), ("not", not)] {
            if !good {
                self.fault(at, format!("{name} does not hold: {}", schema[name]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_fault_is_found_at_its_field() {
        let schema = json!({ "type": "object", "required": ["a", "d"], "properties": {
            "a": { "type": "string", "pattern": "^x", "maxLength": 2 },
            "b": { "type": "array", "maxItems": 1, "items": { "type": "integer", "minimum": 1 } },
            "c": { "type": "object", "additionalProperties": { "type": "boolean" } },
            "d": { "enum": ["on", "off"], "default": "on" },
            "e": { "oneOf": [{ "required": ["x"] }, { "required": ["y"] }],
                "type": "object", "properties": { "x": {}, "y": {} } },
            "f": { "type": "array", "items": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"] },
        }});
        let good = json!({ "a": "x", "b": [1], "c": { "z": true }, "e": { "x": 1 } });
        assert_eq!(faults(&schema, &good), Vec::<String>::new());
        let bad = [
            ("", json!({})),
            ("/a", json!({ "a": "y" })),
            ("/a", json!({ "a": "xxx" })),
            ("/a", json!({ "a": 1 })),
            ("/b", json!({ "a": "x", "b": [1, 1] })),
            ("/b/0", json!({ "a": "x", "b": [0] })),
            ("/c/z", json!({ "a": "x", "c": { "z": 1 } })),
            ("/d", json!({ "a": "x", "d": "of" })),
            ("/e", json!({ "a": "x", "e": { "x": 1, "y": 1 } })),
            ("/f/1", json!({ "a": "x", "f": [{ "name": "n" }, { "name": "n", "v": 1 }] })),
            ("/g", json!({ "a": "x", "g": 1 })),
        ];
        for (at, object) in bad {
            let found = faults(&schema, &object);
            let [fault] = &found[..] else { panic!("{object}: {found:?}") };
            assert!(fault.starts_with(&format!("{at}: ")), "{fault}");
        }
    }
}
