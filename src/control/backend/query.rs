//! What stands in a request's query.

use percent_encoding::percent_decode_str;

use crate::control::refusal::Refusal;

/// The parameters of a query, each of which may be there once, and no other.
///
/// # Errors
/// Which one is there twice or should not be there at all.
pub(super) fn some_of<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], Refusal> {
    let mut values = [const { None }; N];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name)?;
        let Some(index) = names.iter().position(|known| **known == name) else {
            return Err(Refusal::Invalid(format!("there is no parameter {name:?}")));
        };
        if values[index].replace(decoded(value)?).is_some() {
            return Err(Refusal::Invalid(format!("the parameter {name} is there twice")));
        }
    }
    Ok(values)
}

/// The parameters of a query, each of which must be there once, and no other.
///
/// # Errors
/// As [`some_of`], and which one is missing.
pub(super) fn all_of<const N: usize>(query: &str, names: [&str; N]) -> Result<[String; N], Refusal> {
    let values = some_of(query, names)?;
    let mut missing = values.iter().zip(names).filter(|(value, _)| value.is_none());
    if let Some((_, name)) = missing.next() {
        return Err(Refusal::Invalid(format!("the parameter {name} is missing")));
    }
    Ok(values.map(|value| value.expect("none is missing")))
}

/// A name or value as forms encode it: a plus sign is a space.
fn decoded(text: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    let decoded = decoded.map_err(|_| Refusal::Invalid("the query is no UTF-8 text".to_owned()))?;
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<[String; 2], String> {
        all_of(query, ["uid", "channels"]).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn each_parameter_is_there_once() {
        let both = |uid: &str, channels: &str| Ok([uid.to_owned(), channels.to_owned()]);
        assert_eq!(parse("uid=joe&channels=a.*"), both("joe", "a.*"));
        assert_eq!(parse("&channels=%2E%2B+=&uid=J%C3%BCrgen+M&"), both("Jürgen M", ".+ ="));
        assert_eq!(parse("uid&channels="), both("", ""));
        for (wrong, sentence) in [
            ("", "the parameter uid is missing"),
            ("uid=joe", "the parameter channels is missing"),
            ("uid=a&channels=b&uid=a", "the parameter uid is there twice"),
            ("uid=a&channels=b&ttl=5", "there is no parameter \"ttl\""),
            ("uid=%ff&channels=b", "the query is no UTF-8 text"),
        ] {
            assert_eq!(parse(wrong), Err(sentence.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn a_parameter_may_be_missing() {
        assert_eq!(some_of("b=&", ["a", "b"]), Ok([None, Some(String::new())]));
        assert!(some_of("b&b", ["a", "b"]).is_err());
    }
}
