//! The effective configuration as JSON, for `GET /api/v1/config`: every setting with its origin, secrets
//! removed.

use serde_json::{Map, Value, json};

use super::Effective;
use super::origin::segments;
use super::secrets::shown;

/// Nested as the file is; each setting is `{ "value": "250ms", "origin": "mamparo.yaml:12:5" }`, with the
/// value in the notation of the configuration and the origin in the words of [`super::Origin`].
pub fn to_json(effective: &Effective) -> Value {
    let mut root = Value::Object(Map::new());
    for (path, entry) in effective.aside().iter() {
        let leaf = json!({
            "value": shown(path, &entry.value),
            "origin": entry.origin.to_string(),
        });
        let place = segments(path).fold(&mut root, below);
        *place = leaf;
    }
    root
}

/// The value at a key or an index, made if it is not there.
fn below<'a>(value: &'a mut Value, segment: &str) -> &'a mut Value {
    let index = segment
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .and_then(|index| index.parse::<usize>().ok());
    match index {
        None => entry(value, segment),
        // Lists come in order: an index is that of an element that is there, or of the next.
        Some(index) => {
            if !value.is_array() {
                *value = Value::Array(Vec::new());
            }
            let key = index.min(value.as_array().map_or(0, Vec::len));
            if let Value::Array(items) = value
                && key == items.len()
            {
                items.push(Value::Null);
            }
            &mut value[key]
        }
    }
}

fn entry<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    &mut value[key]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Origin, Place};

    #[test]
    fn settings_are_nested_and_carry_their_origin() {
        let place = |line| Place {
            file: "a.yaml".into(),
            line,
            column: 5,
        };
        let mut effective = Effective::default();
        effective.insert(
            "service",
            "orders",
            Origin::Environment {
                name: "NAME".into(),
                place: None,
            },
        );
        effective.insert(
            "upstreams.pay.endpoints[0]",
            "http://u:p@a:1",
            Origin::Written(place(3)),
        );
        effective.insert(
            "upstreams.pay.endpoints[1].address",
            "b:2",
            Origin::Written(place(4)),
        );
        effective.insert("upstreams.pay.endpoints[1].weight", "1", Origin::Default);
        let inherited = Origin::Inherited {
            from: "defaults",
            place: place(9),
        };
        effective.insert("upstreams.pay.retry.max_attempts", "3", inherited);
        effective.insert("upstreams.pay.bulkhead", "off", Origin::Default);
        let expected = json!({
            "service": { "value": "orders", "origin": "from $NAME" },
            "upstreams": { "pay": {
                "endpoints": [
                    { "value": "http://(hidden)@a:1", "origin": "a.yaml:3:5" },
                    {
                        "address": { "value": "b:2", "origin": "a.yaml:4:5" },
                        "weight": { "value": "1", "origin": "default" },
                    },
                ],
                "retry": { "max_attempts": { "value": "3", "origin": "a.yaml:9:5 (from defaults)" } },
                "bulkhead": { "value": "off", "origin": "default" },
            }},
        });
        assert_eq!(to_json(&effective), expected);
    }

    #[test]
    fn strange_paths_do_no_harm() {
        let mut effective = Effective::default();
        for path in ["", "a", "a.b", "a[7]", "a[x]", "[0]", "a.b.c"] {
            effective.insert(path, "1", Origin::Default);
        }
        assert!(to_json(&effective).is_object() || to_json(&effective).is_array());
    }
}
