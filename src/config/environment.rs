//! `${NAME}` and `${NAME:-default}` in a value. The value is text that the file's structure is already
//! read from, so that whatever a variable holds stays one value.

/// Looks a variable up.
pub(super) type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// A value with its variables replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Replaced {
    /// The new text.
    pub(super) text: String,
    /// The variables that it was taken from, with commas; `None` when only defaults were used.
    pub(super) names: Option<Box<str>>,
}

/// Replaces every `${…}`; `$${` stands for `${` itself. `None`: there is nothing to replace.
/// The error is a sentence.
pub(super) fn replace(
    text: &str,
    environment: &Environment<'_>,
) -> Result<Option<Replaced>, String> {
    // To look for one character first is a tenth of the work, and nearly all texts have none.
    if !text.contains('$') || !text.contains("${") {
        return Ok(None);
    }
    let mut result = String::with_capacity(text.len());
    let mut names: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = (
            rest.get(..start).unwrap_or_default(),
            rest.get(start + 2..).unwrap_or_default(),
        );
        if let Some(escaped) = before.strip_suffix('$') {
            result.push_str(escaped);
            result.push_str("${");
            rest = after;
            continue;
        }
        result.push_str(before);
        let Some((inside, tail)) = after.split_once('}') else {
            return Err("`${` has no closing `}`".to_owned());
        };
        let (name, default) = inside
            .split_once(":-")
            .map_or((inside, None), |(name, default)| (name, Some(default)));
        if !is_name(name) {
            return Err(format!(
                "`${{{inside}}}` is no variable: a name has letters, digits and `_`"
            ));
        }
        result.push_str(&value(name, default, environment, &mut names)?);
        rest = tail;
    }
    result.push_str(rest);
    names.dedup();
    let names = (!names.is_empty()).then(|| names.join(", ").into_boxed_str());
    Ok(Some(Replaced {
        text: result,
        names,
    }))
}

/// The value of one variable, or its default. As in a shell, `:-` also stands in for an empty value.
fn value<'a>(
    name: &'a str,
    default: Option<&str>,
    environment: &Environment<'_>,
    names: &mut Vec<&'a str>,
) -> Result<String, String> {
    match (environment(name), default) {
        (Some(empty), Some(default)) if empty.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => {
            names.push(name);
            Ok(value)
        }
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment variable `{name}` is not set, and there is no default"
        )),
    }
}

/// Whether a shell would take it for a variable's name.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("10.0.0.1".into()),
            "PORT" => Some("80".into()),
            "EMPTY" => Some(String::new()),
            "YAML" => Some("a: [b]\nc: &d".into()),
            _ => None,
        }
    }

    fn replaced(text: &str) -> (String, Option<String>) {
        let replaced = replace(text, &environment).unwrap().unwrap();
        (replaced.text, replaced.names.map(String::from))
    }

    #[test]
    fn variables_are_replaced() {
        assert_eq!(
            replaced("${HOST}:${PORT}"),
            ("10.0.0.1:80".into(), Some("HOST, PORT".into()))
        );
        assert_eq!(replaced("${NONE:-x}"), ("x".into(), None));
        assert_eq!(
            replaced("${EMPTY:-x}${EMPTY}"),
            ("x".into(), Some("EMPTY".into()))
        );
        assert_eq!(replaced("${NONE:-}"), (String::new(), None));
        assert_eq!(
            replaced("a$b${HOST}$"),
            ("a$b10.0.0.1$".into(), Some("HOST".into()))
        );
        assert_eq!(
            replaced("$${HOST} ${PORT}"),
            ("${HOST} 80".into(), Some("PORT".into()))
        );
        assert_eq!(replaced("${YAML}").0, "a: [b]\nc: &d");
        assert_eq!(replace("$HOST {x}", &environment), Ok(None));
    }

    #[test]
    fn what_cannot_be_replaced_is_said() {
        let error = |text| replace(text, &environment).unwrap_err();
        assert!(error("${NONE}").contains("`NONE` is not set"));
        assert!(error("${HOST").contains("no closing"));
        assert!(error("${}").contains("is no variable"));
        assert!(error("${1X}").contains("is no variable"));
        assert!(error("${A B:-x}").contains("is no variable"));
    }
}
