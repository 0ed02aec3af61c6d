//! Single access tokens for a backend's browsers.

use axum::{
    Json,
    http::header,
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::Backend;
use crate::control::{
    refusal::Refusal,
    request::{Pass, Request},
    tokens::TokenRequest,
};

/// `GET /<vhost>/token?uid=…&channels=…`: `{"token"}`.
pub(super) async fn issue(backend: &Backend, pass: Pass, query: &str) -> Result<Response, Refusal> {
    let [uid, channels] = parameters(query, ["uid", "channels"])?;
    let request = TokenRequest::new(&uid, &channels, None)?;
    let token = backend.control.ask(|reply| Request::IssueToken(pass.into(), request, reply)).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(json!({ "token": token.reveal() }))).into_response())
}

/// The parameters of a query, each of which must be there once, and no other.
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[String; N], Refusal> {
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
        parameters(query, ["uid", "channels"]).map_err(|refusal| refusal.to_string())
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
}
